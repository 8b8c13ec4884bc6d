import { setTimeout as delay } from "node:timers/promises";
import { InputError } from "../errors.js";
import { ollamaText } from "../gate/inputs/ollama.js";
import { sseText } from "../gate/inputs/sse.js";
import type { AnswerSource, Turn } from "./protocol.js";

/** Characters of an endpoint's refusal that the page shows. */
const MOST_SHOWN = 300;

/**
 * The answer's text, as it comes.
 *
 * @throws {InputError} ENDPOINT_INVALID, ENDPOINT_UNREACHABLE, ENDPOINT_REFUSED, and what the stream's reader throws
 */
export function answerText(
  source: AnswerSource,
  messages: readonly Turn[],
  signal: AbortSignal,
): AsyncIterable<string> {
  if (source.kind === "text") return played(source.text, source.perSecond, signal);
  return asked(source, messages, signal);
}

/** Words with the space before them, at a pace. */
async function* played(text: string, perSecond: number, signal: AbortSignal): AsyncGenerator<string> {
  const words = text.match(/\s*\S+|\s+$/gu) ?? [];
  const startedAt = performance.now();
  for (const [index, word] of words.entries()) {
    if (perSecond > 0) {
      // By the clock, not by the last word: a busy machine must not make the text slower than it was asked to be.
      const wait = startedAt + (1000 * index) / perSecond - performance.now();
      if (wait > 0) await delay(wait, undefined, { signal });
    }
    signal.throwIfAborted();
    yield word;
  }
}

async function* asked(
  { kind, url, model, key }: Exclude<AnswerSource, { kind: "text" }>,
  messages: readonly Turn[],
  signal: AbortSignal,
): AsyncGenerator<string> {
  const response = await fetch(endpoint(kind, url), {
    method: "POST",
    // Another address would get the conversation, and the key.
    redirect: "error",
    headers: { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) },
    body: JSON.stringify({ model, messages, stream: true }),
    signal,
  }).catch((cause) => {
    signal.throwIfAborted();
    throw new InputError("ENDPOINT_UNREACHABLE", `${url} cannot be reached, or sends elsewhere.`, { cause });
  });
  if (!response.ok || !response.body) {
    const said = hide(await response.text(), key).slice(0, MOST_SHOWN);
    throw new InputError("ENDPOINT_REFUSED", `${url} answered ${response.status}: ${said}`);
  }
  const text = decoded(response.body);
  yield* kind === "ollama" ? ollamaText(text) : sseText(text);
}

async function* decoded(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  for await (const bytes of body) yield decoder.decode(bytes, { stream: true });
}

/** @throws {InputError} ENDPOINT_INVALID */
function endpoint(kind: "openai" | "ollama", address: string): string {
  if (!/^https?:\/\//.test(address) || !URL.canParse(address)) {
    throw new InputError("ENDPOINT_INVALID", "The endpoint is an address such as http://127.0.0.1:11434.");
  }
  const { origin, pathname } = new URL(address);
  const base = origin + pathname.replace(/\/+$/, "");
  if (kind === "ollama") return `${base.replace(/\/api(\/chat)?$/, "")}/api/chat`;
  return `${base.replace(/(\/v1)?(\/chat\/completions)?$/, "")}/v1/chat/completions`;
}

/** Endpoints repeat a wrong key in their answers. */
function hide(text: string, key: string | undefined): string {
  return key ? text.replaceAll(key, "…") : text;
}
