import { basename } from "node:path";
import { Engine, type EngineOptions } from "../src/engine/engine.js";
import { Guard, type LoadOptions, loadGuard } from "../src/guard.js";
import { ChatTemplate } from "../src/tokenizer/chat-template/template.js";
import { Tokenizer } from "../src/tokenizer/tokenizer.js";
import { benchModel, parseFormat } from "./model.js";

/** Options of every bench that runs on a device. */
export const GUARD_OPTIONS = {
  /** cpu, cuda, or one of several: cuda:1. */
  device: { type: "string", default: "cpu" },
  /** Format of the random 0.6B shape: w8a8, int4-kv8, bf16, … Default: what the package takes. */
  dtype: { type: "string" },
  /** In place of the random 0.6B shape: "embedded", or the folder of a model. */
  model: { type: "string" },
} as const;

export interface GuardChoice {
  device: string;
  dtype?: string;
  model?: string;
}

/** The format of the random 0.6B shape where none is given. */
function defaultFormat(device: string): string {
  return device === "cpu" ? "w8a8" : "bf16";
}

/** What the results call it. */
export function guardName({ device, dtype, model }: GuardChoice): string {
  return model ? basename(model) : `0.6B-${dtype ?? defaultFormat(device)}`;
}

/** The folder of the model, made if it has to be; undefined for the embedded one. */
export async function guardDir({ device, dtype, model }: GuardChoice): Promise<string | undefined> {
  if (model) return model === "embedded" ? undefined : model;
  return benchModel(parseFormat(dtype ?? defaultFormat(device)), device === "cpu" ? "cpu" : "cuda");
}

/**
 * Loads it as anybody would, except that no prompt is spared because one like it came before: a bench asks for the same
 * one again and again, and many that begin alike.
 */
export async function openGuard(choice: GuardChoice, options: LoadOptions): Promise<Guard> {
  const device = choice.device as LoadOptions["device"];
  return loadGuard(await guardDir(choice), { prefixCache: false, ...options, device });
}

/** A guard whose engine can be reached, without reuse of prompts. */
export async function loadBenchGuard(dir: string, options: EngineOptions) {
  const tokenizer = await Tokenizer.load(dir);
  const template = await ChatTemplate.load(dir, tokenizer);
  const started = performance.now();
  const engine = await Engine.load(dir, { prefixCache: false, ...options });
  const loadMs = performance.now() - started;
  return { guard: new Guard(dir, engine, tokenizer, template, options), engine, loadMs };
}
