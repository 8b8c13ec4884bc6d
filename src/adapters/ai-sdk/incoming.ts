import type { AnswerFormatter } from "../../gate/answer-formatter.js";
import type { Part } from "../../gate/parts.js";
import type { Policy } from "../../moderation/policy.js";
import { ToolCalls, withoutTools } from "./tools.js";
import type { Block, Content, GenerateResult, StreamPart, Usage } from "./types.js";

/** What passes in its place among the text, and whether the text before it is at its end then. */
const PASSING: Record<string, { ends: boolean }> = {
  "stream-start": { ends: false },
  "response-metadata": { ends: false },
  "text-start": { ends: false },
  "reasoning-start": { ends: false },
  "text-end": { ends: true },
  "reasoning-end": { ends: true },
  "tool-input-start": { ends: true },
  "tool-input-delta": { ends: false },
  "tool-input-end": { ends: false },
  "tool-call": { ends: true },
  "tool-result": { ends: true },
  "tool-approval-request": { ends: true },
  // These come in the middle of words, where a provider names its sources as it goes.
  source: { ends: false },
  file: { ends: false },
  "reasoning-file": { ends: false },
  ping: { ends: false },
  finish: { ends: true },
  error: { ends: true },
};

type Read = Part<StreamPart | Block>;

/** A provider's stream as parts of one answer. Tells of the usage as soon as it is there. */
export function streamParts(
  stream: ReadableStream<StreamPart>,
  signal: AbortSignal,
  formatter: AnswerFormatter<StreamPart | Block>,
  options: { policy: Policy; onUsage: (usage: Usage) => void },
): AsyncGenerator<Read> {
  const reader = stream.getReader();
  // A model that does not heed the signal is left all the same, also where nobody reads a part of it.
  const leave = () => void reader.cancel(signal.reason).catch(() => {});
  if (signal.aborted) leave();
  signal.addEventListener("abort", leave, { once: true });
  return readParts(reader, formatter, options);
}

async function* readParts(
  reader: ReadableStreamDefaultReader<StreamPart>,
  formatter: AnswerFormatter<StreamPart | Block>,
  { policy, onUsage }: { policy: Policy; onUsage: (usage: Usage) => void },
): AsyncGenerator<Read> {
  const tools = new ToolCalls(policy, formatter);
  const blocks = new Map<string, Block>();
  const blockOf = (channel: Block["channel"], id: string): Block => {
    const key = `${channel} ${id}`;
    const block = blocks.get(key) ?? { channel, id };
    blocks.set(key, block);
    return block;
  };
  const end = (channel: Block["channel"], id: string): Read[] => {
    const block = blockOf(channel, id);
    blocks.delete(`${channel} ${id}`);
    return formatter.end(block, block);
  };
  const endAll = () => [...blocks.values()].flatMap(({ channel, id }) => end(channel, id));
  for (;;) {
    const { done, value: part } = await reader.read();
    if (done) break;
    if (part.type === "text-delta" || part.type === "reasoning-delta") {
      const channel = part.type === "text-delta" ? "content" : "reasoning";
      const block = blockOf(channel, part.id);
      yield* formatter.text(channel, part.delta, block, block);
      // A signature, for example; the text went its own way.
      if (part.providerMetadata) yield { kind: "item", item: { ...part, delta: "" } };
      continue;
    }
    if (part.type === "text-end") yield* end("content", part.id);
    if (part.type === "reasoning-end") yield* end("reasoning", part.id);
    if (part.type === "finish") {
      yield* endAll();
      onUsage(part.usage);
    }
    // A raw part repeats text that is not judged yet; one that nobody knows may hold some.
    const known = PASSING[part.type];
    if (!known && (policy.unjudged === "refuse" || part.type === "raw")) continue;
    yield* tools.before(part);
    yield { kind: "item", item: part, boundary: endsText(part, policy), ends: part.type === "finish" };
  }
  yield* endAll();
}

/** Whether the text before a part is settled at once. A call that is judged goes behind its verdict, piece by piece. */
function endsText({ type }: StreamPart, { tools }: Policy): boolean {
  if (type === "tool-input-end" && tools === "judge") return true;
  return PASSING[type]?.ends ?? true;
}

const CONTENT = ["tool-call", "tool-result", "tool-approval-request", "source", "file", "reasoning-file"];

/** The block of what `ai` 7 calls the structured output's text. */
const STRUCTURED: Block = { channel: "content", id: "structured" };

/** An answer that came at once, as parts. Text comes as an empty item, and then what it says. */
export async function* contentParts(
  { content, structuredOutputText: structured }: GenerateResult,
  formatter: AnswerFormatter<Content | Block>,
  policy: Policy,
): AsyncGenerator<Part<Content | Block>> {
  const tools = new ToolCalls(policy, formatter);
  let said = "";
  for (const item of content) {
    if (item.type === "text" || item.type === "reasoning") {
      yield { kind: "item", item: { ...item, text: "" }, boundary: true };
      const block: Block = { channel: item.type === "text" ? "content" : "reasoning", id: "" };
      yield* formatter.text(block.channel, item.text, block, block);
      yield* formatter.end(block, block);
      if (item.type === "text") said += item.text;
    } else if (policy.unjudged === "pass" || CONTENT.includes(item.type)) {
      yield* tools.before(item);
      yield { kind: "item", item, boundary: true };
    }
  }
  if (typeof structured === "string" && !said.includes(structured)) {
    yield* formatter.text("content", structured, STRUCTURED, STRUCTURED);
    yield* formatter.end(STRUCTURED, STRUCTURED);
  }
}

/** Puts an answer that came at once together again. */
export class Collected {
  readonly content: Content[] = [];
  readonly #formatter: AnswerFormatter<Content | Block>;

  constructor(formatter: AnswerFormatter<Content | Block>) {
    this.#formatter = formatter;
  }

  take(part: Part<Content | Block>): void {
    if (part.kind === "item") this.content.push(part.item as Content);
    if (part.kind !== "text") return;
    const text = this.#formatter.source(part);
    const last = this.content.at(-1);
    if (part.tag !== STRUCTURED && last && "text" in last) last.text += text;
  }

  /**
   * What passed of an answer that was stopped. The text that was cut comes without what the provider tells of it: log
   * probabilities, citations and signatures are those of the whole.
   *
   * @param tools where calls are judged, none of those before is left
   */
  cut(tools: Policy["tools"]): Content[] {
    const last = this.content.at(-1);
    if (last && "text" in last) this.content.splice(-1, 1, { type: last.type, text: last.text });
    const content = this.content.filter((item) => !("text" in item) || item.text !== "");
    return tools === "judge" ? withoutTools(content) : content;
  }
}
