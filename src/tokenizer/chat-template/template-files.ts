import { join } from "node:path";
import { CheckpointError } from "../../errors.js";
import { fileProblem, readText } from "../../files/regular-file.js";
import { parseJson } from "../../validation/json.js";

/** Of tokenizer_config.json and the template, in bytes; Qwen3's have 10,000. */
const LARGEST_FILE = 8 << 20;

/** A checkpoint's chat templates, as they are written. */
export interface TemplateSources {
  template: string;
  toolTemplate: string;
  /** Variables a template may use: bos_token, eos_token and the like. */
  tokens: Record<string, string>;
}

/**
 * Reads the chat template of a checkpoint or model directory: `chat_template.jinja`, else the `chat_template` of
 * `tokenizer_config.json` (one, or several by name: "default" and, where tools are given, "tool_use").
 *
 * @throws {CheckpointError} TEMPLATE_MISSING, TEMPLATE_INVALID
 */
export async function readTemplates(dir: string): Promise<TemplateSources> {
  const file = join(dir, "tokenizer_config.json");
  const config = parse((await readIfThere(file)) ?? "{}", file);
  const own = await readIfThere(join(dir, "chat_template.jinja"));
  const configured = config.chat_template;
  const named = new Map<string, unknown>();
  if (Array.isArray(configured)) for (const form of configured) named.set(form?.name, form?.template);
  const template = own ?? (typeof configured === "string" ? configured : named.get("default"));
  if (typeof template !== "string") {
    throw new CheckpointError(
      "TEMPLATE_MISSING",
      `${dir} has no chat template: neither chat_template.jinja nor a chat_template in tokenizer_config.json. ` +
        "Copy these files from the checkpoint.",
    );
  }
  const forTools = own === null ? named.get("tool_use") : undefined;
  const tokens: Record<string, string> = {};
  for (const [name, value] of Object.entries(config)) {
    const token = (value as { content?: unknown } | null)?.content ?? value;
    if (name.endsWith("_token") && typeof token === "string") tokens[name] = token;
  }
  return { template, toolTemplate: typeof forTools === "string" ? forTools : template, tokens };
}

function parse(json: string, file: string): Record<string, unknown> {
  try {
    const config = parseJson(json);
    if (typeof config === "object" && config !== null) return config as Record<string, unknown>;
  } catch (cause) {
    throw new CheckpointError("TEMPLATE_INVALID", `${file} is not JSON. Fetch it again.`, { cause });
  }
  throw new CheckpointError("TEMPLATE_INVALID", `${file} must hold a JSON object. Fetch it again.`);
}

async function readIfThere(file: string): Promise<string | null> {
  try {
    return await readText(file, LARGEST_FILE);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new CheckpointError(
      "TEMPLATE_MISSING",
      `${file} cannot be read (${fileProblem(cause)}). Fetch it again.`,
      { cause },
    );
  }
}
