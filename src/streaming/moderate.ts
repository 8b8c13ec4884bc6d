import { Readable } from "node:stream";
import { InputError } from "../errors.js";
import { aText, type OptionCheck } from "../options.js";
import {
  GATE_OPTIONS,
  Gate,
  type GateOptions,
  type GateStats,
  type Outcome,
  type VerdictStream,
} from "./gate.js";
import type { Part } from "./hold-buffer.js";
import { type Chunks, iterate, type Source } from "./source.js";
import { ModerationViolation } from "./violation.js";

/** Text, UTF-8 bytes, or ids of the guard's own tokenizer. */
export type Chunk = string | Uint8Array | number | readonly number[];

/** What comes out for what goes in: text for text and bytes, lists of ids for ids. */
export type Released<C extends Chunk> = C extends string | Uint8Array ? string : number[];

export interface ModerationOptions extends GateOptions {
  /** Given to the reader in place of a violation, as the last of the text. Text only. Default: the violation is thrown. */
  replacement?: string;
}

export const MODERATION_OPTIONS = { ...GATE_OPTIONS, replacement: aText } satisfies Record<
  keyof Omit<ModerationOptions, "policy">,
  OptionCheck
>;

/**
 * A moderated stream. It starts when it is first read, and holds a slot of the guard until it ends or is left:
 * `for await` does that by itself, others call `return()`.
 */
export class ModeratedStream<C extends Chunk> implements AsyncIterableIterator<Released<C>> {
  readonly #gate: Gate<never>;
  readonly #replacement: string | undefined;
  #replaced = false;

  constructor(source: Source<C>, open: () => VerdictStream, { replacement, ...options }: ModerationOptions) {
    const parts =
      typeof source === "function"
        ? async (signal: AbortSignal) => new ChunkReader(await source(signal))
        : new ChunkReader(source);
    this.#gate = new Gate<never>(parts, open, options);
    this.#replacement = replacement;
  }

  /** How it ended. Never rejects. */
  get done(): Promise<Outcome> {
    return this.#gate.done;
  }

  get stats(): Readonly<GateStats> {
    return this.#gate.stats;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** @throws {ModerationViolation} unless there is a replacement; or what the guard or the source failed of */
  async next(): Promise<IteratorResult<Released<C>, undefined>> {
    if (this.#replaced) return { done: true, value: undefined };
    try {
      const { done, value } = await this.#gate.next();
      if (done) return { done, value };
      const released = value.kind === "text" ? value.text : value.kind === "ids" ? [...value.ids] : [];
      return { done: false, value: released as Released<C> };
    } catch (error) {
      if (this.#replacement === undefined || !(error instanceof ModerationViolation)) throw error;
      this.#replaced = true;
      return { done: false, value: this.#replacement as Released<C> };
    }
  }

  /** Stops everything: the source is told, the guard's slot is free. Idempotent. */
  async return(): Promise<IteratorResult<Released<C>, undefined>> {
    await this.#gate.return();
    return { done: true, value: undefined };
  }

  /** `await using stream = guard.moderate(…)` stops everything when it goes out of scope. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#gate.return();
  }

  /**
   * As a Node stream, for `pipeline(stream.toReadable(), response)`: one that is destroyed, because its reader has left
   * for example, stops everything at once. In object mode, so that text stays text; a violation destroys it.
   */
  toReadable(): Readable {
    return Readable.from(this);
  }
}

/** A source's chunks as parts of a response. */
class ChunkReader<C extends Chunk> implements AsyncIterableIterator<Part<never>> {
  readonly #chunks: Chunks<C>;
  #iterator: AsyncIterator<C> | Iterator<C> | null = null;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #kind: Part<never>["kind"] | null = null;
  #ended = false;

  constructor(chunks: Chunks<C>) {
    this.#chunks = chunks;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Part<never>, undefined>> {
    if (this.#ended) return { done: true, value: undefined };
    this.#iterator ??= iterate(this.#chunks);
    const { done, value } = await this.#iterator.next();
    if (!done) return { done: false, value: this.#part(value) };
    this.#ended = true;
    const text = this.#decoder.decode();
    return text === "" ? { done: true, value } : { done: false, value: { kind: "text", text } };
  }

  /** Goes straight to the source, whose `next()` may be waiting. */
  async return(): Promise<IteratorResult<Part<never>, undefined>> {
    this.#ended = true;
    this.#iterator ??= iterate(this.#chunks);
    await this.#iterator.return?.();
    return { done: true, value: undefined };
  }

  #part(chunk: unknown): Part<never> {
    const part = toPart(chunk, this.#decoder);
    if (this.#kind !== null && this.#kind !== part.kind) {
      throw new InputError("MIXED_INPUT", "The source gave text and token ids; it must give one of them.");
    }
    this.#kind = part.kind;
    return part;
  }
}

function toPart(chunk: unknown, decoder: InstanceType<typeof TextDecoder>): Part<never> {
  if (typeof chunk === "string") return { kind: "text", text: chunk };
  if (chunk instanceof Uint8Array) return { kind: "text", text: decoder.decode(chunk, { stream: true }) };
  if (typeof chunk === "number") return { kind: "ids", ids: [chunk] };
  if (Array.isArray(chunk)) return { kind: "ids", ids: chunk };
  throw new InputError(
    "CHUNK_INVALID",
    `The source gave ${chunk === null ? "null" : `a value of type ${typeof chunk}`}; it must give text, UTF-8 bytes ` +
      "or token ids. Map an SDK's events to their text first.",
  );
}
