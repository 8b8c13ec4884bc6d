import { InputError } from "../errors.js";
import { isRecord } from "../validation/json.js";
import { Thoughts, upstreamError } from "./inputs/event-text.js";
import { ModelEvents } from "./inputs/model-events.js";
import type { Part } from "./parts.js";
import { type Chunks, isEmitter, iterate } from "./source.js";
import { toldError } from "./told-error.js";

/**
 * An object of a model client's stream: of `openai` (chat completions, completions, responses), `@anthropic-ai/sdk`,
 * `ollama`, LangChain (`AIMessageChunk`), or the AI SDK (`fullStream`, chunks of UI messages). Known by its shape when it
 * comes; of another one is CHUNK_INVALID.
 */
export type ModelEvent =
  | { readonly choices: readonly unknown[] }
  | { readonly type: string }
  | { readonly message: object }
  | { readonly response: string }
  | { readonly content: unknown; getType(): string };

/** Text, UTF-8 bytes, ids of the guard's own tokenizer, or objects of a model client's stream. */
export type Chunk = string | Uint8Array | number | readonly number[] | ModelEvent;

/** What comes out for what goes in: lists of ids for ids, text for all else. */
export type Released<C extends Chunk> = C extends number | readonly number[] ? number[] : string;

/** What has no type is taken for text. */
export type Typed<C extends Chunk> = 0 extends 1 & C ? string : C;

export interface ChunkOptions<C> {
  /** Whether the reasoning that objects tell apart is part of the text, between `<think>` and `</think>`. */
  reasoning?: boolean;
  /**
   * Called with each object of a model client's stream as it comes, before any of it is judged: with tool calls, reasoning
   * and usage, which the text has not. Where it is not given, a tool call is an error (CHUNK_NOT_TEXT).
   */
  onEvent?: (event: C) => void;
}

type Read = Part<never>;

/** A source's chunks as parts of a response. */
export class ChunkReader<C extends Chunk> implements AsyncIterableIterator<Read> {
  readonly #chunks: Chunks<C>;
  readonly #options: ChunkOptions<C>;
  #iterator: AsyncIterator<C> | Iterator<C> | null = null;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  readonly #events = new ModelEvents("a model's stream");
  readonly #thoughts = new Thoughts();
  #kind: Read["kind"] | null = null;
  #count = 0;
  #ended = false;

  constructor(chunks: Chunks<C>, options: ChunkOptions<C> = {}) {
    this.#chunks = chunks;
    this.#options = options;
    // What it says before its first reader comes, nobody would hear.
    if (isEmitter(chunks)) this.#iterator = iterate(chunks);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Read, undefined>> {
    if (this.#ended) return { done: true, value: undefined };
    this.#iterator ??= iterate(this.#chunks);
    const { done, value } = await this.#iterator.next();
    if (!done) return { done: false, value: this.#part(value) };
    this.#ended = true;
    const text = this.#decoder.decode();
    return text === "" ? { done: true, value: undefined } : { done: false, value: { kind: "text", text } };
  }

  /** Goes straight to the source, whose `next()` may be waiting. */
  async return(): Promise<IteratorResult<Read, undefined>> {
    this.#ended = true;
    this.#iterator ??= iterate(this.#chunks);
    await this.#iterator.return?.();
    return { done: true, value: undefined };
  }

  #part(chunk: C): Read {
    const part = this.#read(chunk);
    if (this.#kind !== null && this.#kind !== part.kind) {
      throw new InputError("MIXED_INPUT", "The source gave text and token ids; it must give one of them.");
    }
    this.#kind = part.kind;
    return part;
  }

  #read(chunk: C): Read {
    this.#count++;
    if (typeof chunk === "string") return { kind: "text", text: chunk };
    if (chunk instanceof Uint8Array) {
      return { kind: "text", text: this.#decoder.decode(chunk, { stream: true }) };
    }
    if (typeof chunk === "number") return { kind: "ids", ids: [chunk] };
    if (isIds(chunk)) return { kind: "ids", ids: chunk };
    return { kind: "text", text: this.#ofEvent(chunk) };
  }

  #ofEvent(chunk: C): string {
    const where = `chunk ${this.#count}`;
    const event: unknown = chunk;
    if (!isRecord(event)) throw unknown(chunk, where);
    // A tool that failed is no failure of the model's.
    const error = event.type === "tool-error" ? null : toldError(event);
    if (error) throw upstreamError(where, error, event.error);
    const added = this.#events.read(event, where);
    if (!added) throw unknown(chunk, where);
    const { reasoning, onEvent } = this.#options;
    if (added.beside !== null && !onEvent) throw notText(added.beside, where);
    onEvent?.(chunk);
    return reasoning ? this.#thoughts.add(added.reasoning, added.content) : added.content;
  }
}

function isIds(chunk: unknown): chunk is readonly number[] {
  return Array.isArray(chunk) && chunk.every((id) => typeof id === "number");
}

function unknown(chunk: unknown, where: string): InputError {
  const kind = chunk === null ? "null" : Array.isArray(chunk) ? "a list" : `a value of type ${typeof chunk}`;
  return new InputError(
    "CHUNK_INVALID",
    `The source gave ${kind} that is none of what is taken (${where}): text, UTF-8 bytes, token ids, or the chunk objects ` +
      "of openai, @anthropic-ai/sdk, ollama, LangChain and the AI SDK. Map other objects to their text first.",
  );
}

function notText(what: string, where: string): InputError {
  return new InputError(
    "CHUNK_NOT_TEXT",
    `The source gave ${what} (${where}), and what comes out is text alone, so it would be lost. Take the objects as they ` +
      "come with the option onEvent, ask the model for text alone, or use the proxy or the AI SDK's middleware, which pass it.",
  );
}
