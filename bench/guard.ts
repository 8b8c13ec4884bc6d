import { Engine, type EngineOptions } from "../src/engine/engine.js";
import { Guard } from "../src/moderation/guard.js";
import { ChatTemplate } from "../src/tokenizer/template.js";
import { Tokenizer } from "../src/tokenizer/tokenizer.js";

/** A guard whose engine can be reached. */
export async function loadBenchGuard(dir: string, options: EngineOptions) {
  const tokenizer = await Tokenizer.load(dir);
  const template = await ChatTemplate.load(dir, tokenizer);
  const started = performance.now();
  const engine = await Engine.load(dir, options);
  const loadMs = performance.now() - started;
  return { guard: new Guard(dir, engine, tokenizer, template), engine, loadMs };
}
