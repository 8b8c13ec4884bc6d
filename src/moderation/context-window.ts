import type { LogitsReader } from "../engine/logits.js";
import type { Sequence } from "../engine/sequence.js";
import { ClosedError, ContextLengthError, type GuardError } from "../errors.js";
import { EarlierWindows, feedWindow, type PromptReader } from "./earlier-windows.js";
import type { PromptInWindows } from "./prompt-windows.js";
import type { WindowRecall } from "./window-memory.js";
import { plan, type WindowStep } from "./window-plan.js";

/** What a stream does when its conversation, or the response to it, outgrows the model's context. */
export type Overflow = "error" | "slide";

export interface WindowOptions {
  /** Default "error". */
  overflow?: Overflow;
  /** Opens another sequence where a slot is free and nobody waits for it. Default: none is. */
  spare?: () => Sequence | null;
  /** How often a response may slide on ("slide"). Default: without end. */
  mostSlides?: number;
  /** What is known of windows of the prompt. Default: nothing. */
  recall?: WindowRecall | null;
}

/** Share of the room for a response from which on a window prepares to slide. */
const PREPARE_AT = 0.75;

/**
 * The stretch of a response that the model's context holds, behind the prompt. When the context is full, the window slides
 * on: the prompt stays, and of the response the newer half. Where a slot is free, another sequence reads that half along
 * beforehand and takes over; else the same one reads it again.
 */
export class ContextWindow {
  #sequence: Sequence;
  readonly #options: Required<Omit<WindowOptions, "recall">>;
  readonly #first: Sequence;
  readonly #earlier: EarlierWindows;
  #prefix: readonly number[] = [];
  #short: readonly number[] | null = null;
  /** All response ids so far, judged or not. */
  readonly #ids: number[] = [];
  /** Response index of the first token that the context holds. */
  #start = 0;
  #slides = 0;
  /** Takes over when the context is full. */
  #successor: { sequence: Sequence; start: number } | null = null;
  /** Still have tokens to judge that were given before their successors took over. */
  readonly #retiring = new Set<Sequence>();
  /** While one sequence ends and another begins: what is to be fed to the next waits for it. */
  #handover: Promise<void> | null = null;

  constructor(
    sequence: Sequence,
    {
      overflow = "error",
      spare = () => null,
      mostSlides = Number.POSITIVE_INFINITY,
      recall = null,
    }: WindowOptions = {},
  ) {
    this.#sequence = sequence;
    this.#first = sequence;
    this.#options = { overflow, spare, mostSlides };
    this.#earlier = new EarlierWindows(sequence, spare, recall);
  }

  /** Response tokens given so far. */
  get length(): number {
    return this.#ids.length;
  }

  /** Of the prompt's tokens, those that the cache held already. */
  get reusedTokens(): number {
    return this.#earlier.reused + this.#first.reused;
  }

  /** How often the context was full and slid on. */
  get slides(): number {
    return this.#slides;
  }

  /** Whether it has not got a slot yet. */
  get waiting(): boolean {
    return this.#sequence.slot === null && this.#sequence.failure === null;
  }

  /** What the context holds, prompt and response. */
  get maxTokens(): number {
    return this.#sequence.limits.maxTokens;
  }

  get failure(): GuardError | null {
    return this.#sequence.failure;
  }

  /** Gives it the prompt; before anything else. Its windows are read one after the other. */
  prefill({ windows, short }: PromptInWindows, read: PromptReader): Promise<void> {
    const last = windows[windows.length - 1];
    this.#prefix = last.ids;
    this.#short = short;
    if (windows.length > 1) this.#handover = this.#earlier.read(windows.slice(0, -1), read);
    return this.#afterHandover(() => feedWindow(this.#first, last, read));
  }

  /**
   * Gives it response tokens from an index on, in place of all that were there. `read` gets each token's response index.
   *
   * @throws {ContextLengthError} CONTEXT_EXCEEDED where it must not slide, or not so often
   * @throws as `Sequence.feed`
   */
  async feed(from: number, ids: readonly number[], read: LogitsReader): Promise<void> {
    const { overflow, mostSlides } = this.#options;
    const slides = overflow === "slide";
    const done: Promise<void>[] = [];
    if (slides && this.#short && from + ids.length > this.#room) done.push(this.#shorten(this.#short, from));
    this.#ids.length = from;
    for (const id of ids) this.#ids.push(id);
    const steps = slides
      ? plan(this.#start, this.#room, from, ids.length)
      : [{ start: 0, from, to: from + ids.length }];
    if (steps.length > mostSlides + 1 - this.#slides) throw tooLong(mostSlides);
    if (slides && !this.#short && steps[0].start === this.#start) this.#readAhead(from, steps[0].to);
    for (const step of steps) {
      if (step.start !== this.#start) done.push(this.#slide(step));
      done.push(this.#feedStep(step.from, ids.slice(step.from - from, step.to - from), read));
    }
    await Promise.all(done);
  }

  /** Ends all that it holds. */
  close(reason: GuardError): void {
    const held = [...this.#retiring, this.#earlier, this.#successor?.sequence, this.#sequence];
    for (const holder of held) holder?.close(reason);
  }

  #full(): ContextLengthError {
    return new ContextLengthError(
      "CONTEXT_EXCEEDED",
      `The response outgrows the model's context: it holds ${this.#sequence.limits.maxTokens} tokens, of which the prompt takes ` +
        `${this.#prefix.length}. Let the context slide along (overflow: "slide"), or raise maxTokens up to the model's context.`,
    );
  }

  /** Response tokens that the context holds. */
  get #room(): number {
    return this.#sequence.limits.maxTokens - this.#prefix.length;
  }

  /** Puts what leaves more room in the prompt's place. */
  #shorten(prefix: readonly number[], to: number): Promise<void> {
    this.#slides++;
    this.#prefix = prefix;
    this.#short = null;
    const sequence = this.#sequence;
    const kept = [...prefix, ...this.#ids.slice(0, to)];
    return this.#afterHandover(() => sequence.feed(kept, () => {}, 0, []));
  }

  #feedStep(from: number, ids: readonly number[], read: LogitsReader): Promise<void> {
    const offset = this.#prefix.length - this.#start;
    const sequence = this.#sequence;
    const reader: LogitsReader = (logits, step, position, place) =>
      read(logits, step, position - offset, place);
    const fed = this.#afterHandover(() => sequence.feed(ids, reader, from + offset));
    if (this.#options.overflow === "slide") return fed;
    return fed.catch((error) => {
      throw error instanceof ContextLengthError ? this.#full() : error;
    });
  }

  /** Feeds in the order of the calls, also those that wait for another sequence to end. */
  #afterHandover(feed: () => Promise<void>): Promise<void> {
    if (!this.#handover) return feed();
    let fed: Promise<void>;
    const begun = this.#handover.then(() => {
      if (this.#handover === begun) this.#handover = null;
      fed = feed();
      fed.catch(() => {});
    });
    this.#handover = begun;
    return begun.then(() => fed);
  }

  /** Lets a spare slot read along while there is still room, so that sliding costs no pause. */
  #readAhead(from: number, to: number): void {
    const successor = this.#successor;
    if (successor && !successor.sequence.failure && from >= successor.start) {
      const at = this.#prefix.length + from - successor.start;
      readAlong(successor.sequence, this.#ids.slice(from, to), at);
      return;
    }
    this.#dismiss();
    if (this.#ids.length - this.#start < PREPARE_AT * this.#room) return;
    const sequence = this.#options.spare();
    if (!sequence) return;
    sequence.yields = true;
    const start = this.#start + Math.ceil(this.#room / 2);
    this.#successor = { sequence, start };
    readAlong(sequence, [...this.#prefix, ...this.#ids.slice(start, to)], 0);
  }

  #dismiss(): void {
    this.#successor?.sequence.close(new ClosedError("STREAM_CLOSED", "The sequence is not needed."));
    this.#successor = null;
  }

  #slide({ start, from }: WindowStep): Promise<void> {
    this.#slides++;
    this.#start = start;
    const successor = this.#successor;
    if (successor?.start === start && !successor.sequence.failure) return this.#handOver(successor.sequence);
    this.#dismiss();
    const sequence = this.#sequence;
    const kept = this.#ids.slice(start, from);
    return this.#afterHandover(() => sequence.feed(kept, () => {}, this.#prefix.length));
  }

  /** Verdicts come in order: those under way must not be overtaken by another sequence. */
  #handOver(next: Sequence): Promise<void> {
    const old = this.#sequence;
    const ended = this.#afterHandover(() => old.feed([], () => {}));
    const retire = () => {
      old.close(new ClosedError("STREAM_CLOSED", "Another sequence took over."));
      this.#retiring.delete(old);
    };
    this.#retiring.add(old);
    ended.then(retire, retire);
    next.yields = false;
    this.#handover = ended;
    this.#successor = null;
    this.#sequence = next;
    return ended;
  }
}

function tooLong(mostSlides: number): ContextLengthError {
  return new ContextLengthError(
    "CONTEXT_EXCEEDED",
    `The response needs more than ${mostSlides + 1} windows of the model's context. ` +
      "Judge it in parts, or raise maxWindows, or maxTokens up to the model's context.",
  );
}

/** Where that fails, there is no successor when its time comes. */
function readAlong(sequence: Sequence, ids: readonly number[], at: number): void {
  sequence.feed(ids, () => {}, at, []).catch(() => {});
}
