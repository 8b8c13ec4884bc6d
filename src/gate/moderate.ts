import { Readable } from "node:stream";
import { InputError } from "../errors.js";
import { aFunction, aText, type OptionCheck, oneOf } from "../validation/options.js";
import { REGENERATE_OPTIONS, type RegenerateOptions } from "./attempt.js";
import { type Chunk, type ChunkOptions, ChunkReader, type Released } from "./chunks.js";
import { type Delivery, delivered, type ResponseOptions, responseOf } from "./delivery.js";
import { Gate } from "./gate.js";
import {
  GATE_OPTIONS,
  type GateOptions,
  type GateStats,
  type Mode,
  type Outcome,
  type PartGate,
  type RestartableStream,
} from "./gate-options.js";
import type { Part } from "./parts.js";
import { RegeneratingGate } from "./regenerating-gate.js";
import type { ScoutOptions } from "./scout.js";
import { type Chunks, isPromise, type Source } from "./source.js";
import { replaceWith, stop } from "./strategy.js";

export interface ModerationOptions<C = unknown>
  extends Omit<GateOptions, "mode">,
    Pick<ChunkOptions<C>, "onEvent">,
    RegenerateOptions {
  /**
   * "regenerate": the newest tokens are held; at a flag they are dropped, and the source, a function then, is asked to go on
   * from what the reader has, `attempts` times. Default "hold-back".
   */
  mode?: Mode | "regenerate";
  /** Given to the reader in place of a violation, as the last of the text. Text only. Default: the violation is thrown. */
  replacement?: string;
}

export const MODERATION_OPTIONS = {
  ...GATE_OPTIONS,
  ...REGENERATE_OPTIONS,
  mode: oneOf("hold-back", "stream-first", "scout-first", "regenerate"),
  replacement: aText,
  onEvent: aFunction,
} satisfies Record<keyof Omit<ModerationOptions, "policy">, OptionCheck>;

/**
 * A moderated stream. It starts when it is first read, and holds a slot of the guard until it ends or is left:
 * `for await` does that by itself, others call `return()`.
 */
export class ModeratedStream<C extends Chunk> implements AsyncIterableIterator<Released<C>> {
  readonly #gate: PartGate<never>;

  /** @throws {InputError} OPTION_INVALID */
  constructor(
    source: Source<C>,
    open: () => RestartableStream,
    options: ModerationOptions<C> & ChunkOptions<C>,
    scout: ScoutOptions | null = null,
  ) {
    checkRegenerate(source, options, scout);
    const { replacement, onEvent, reasoning, mode, buffer, attempts, intervention, ...own } = options;
    const partsOf = (chunks: Chunks<C>) => new ChunkReader(chunks, { onEvent, reasoning });
    const parts = partsOfSource(source, partsOf);
    const strategy = replacement === undefined ? stop : replaceWith(replacement);
    this.#gate =
      mode === "regenerate"
        ? new RegeneratingGate<never>(() => parts, open, { ...own, buffer, attempts, intervention, strategy })
        : new Gate<never>(parts, open, { ...own, mode }, { strategy, scout });
  }

  /** How it ended. Never rejects. */
  get done(): Promise<Outcome> {
    return this.#gate.done;
  }

  /** Where it stands: what came, what was judged, what was handed on, how far the guard is behind. */
  get stats(): Readonly<GateStats> {
    return this.#gate.stats;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** @throws {ModerationViolation} unless there is a replacement; or what the guard or the source failed of */
  async next(): Promise<IteratorResult<Released<C>, undefined>> {
    const { done, value } = await this.#gate.next();
    if (done) return { done, value };
    const released = value.kind === "text" ? value.text : value.kind === "ids" ? [...value.ids] : [];
    return { done: false, value: released as Released<C> };
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
   *
   * @param as "events": server-sent events, whose last one says how it ended
   * @throws {InputError} OPTION_INVALID
   */
  toReadable(as: Delivery = "text"): Readable {
    return Readable.from(as === "text" ? this : delivered(this, as));
  }

  /**
   * As a response of the Web's, in UTF-8: for route handlers. A reader who leaves stops everything at once. A violation
   * breaks it off, unless there is a replacement or it is sent as events.
   *
   * @throws {InputError} OPTION_INVALID
   */
  toResponse(options?: ResponseOptions): Response {
    return responseOf(this, options);
  }
}

function partsOfSource<C>(
  source: Source<C>,
  partsOf: (chunks: Chunks<C>) => Chunks<Part<never>>,
): Source<Part<never>> {
  if (typeof source === "function") return async (signal, attempt) => partsOf(await source(signal, attempt));
  return isPromise(source) ? source.then(partsOf) : partsOf(source);
}

/** @throws {InputError} OPTION_INVALID */
function checkRegenerate<C>(
  source: Source<C>,
  options: ModerationOptions<C> & ChunkOptions<C>,
  scout: ScoutOptions | null,
): void {
  const refuse = (why: string) => {
    throw new InputError("OPTION_INVALID", why);
  };
  if (options.mode !== "regenerate") {
    const own = Object.keys(REGENERATE_OPTIONS).find((name) => Object(options)[name] !== undefined);
    if (own) refuse(`${own} is an option of the mode "regenerate": say mode: "regenerate".`);
    return;
  }
  if (typeof source !== "function") {
    refuse(
      'The mode "regenerate" asks its source again: give it as a function, (signal, { turn }) => a stream of the model\'s.',
    );
  }
  if (scout) refuse('The mode "regenerate" has no scout: it holds text back, and judges it in batches.');
  if (options.release) refuse('The mode "regenerate" releases what its buffer leaves: take release out.');
  if (options.reasoning) {
    refuse(
      'The mode "regenerate" goes on with an answer\'s text: it cannot with reasoning that is told apart.',
    );
  }
}
