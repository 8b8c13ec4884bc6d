import type { LogitsReader, Sequence } from "../engine/sequence.js";
import { ClosedError, type GuardError } from "../errors.js";

/** What a stream does when its response outgrows the model's context. */
export type Overflow = "error" | "slide";

/** A stretch of a response, `from` to `to`, and the index of the first token that the context holds with it. */
export interface WindowStep {
  start: number;
  from: number;
  to: number;
}

/**
 * How `count` tokens of a response go into a context that holds `room` of them: what fits goes on in the window that
 * begins at `start`; each further window begins with the newer half of the one before.
 */
export function plan(start: number, room: number, from: number, count: number): WindowStep[] {
  const end = from + count;
  const steps: WindowStep[] = [];
  let at = from;
  do {
    const full = at === start + room && at < end;
    if (at < start || at > start + room || full) start = Math.max(0, at - Math.floor(room / 2));
    const to = Math.min(end, start + room);
    steps.push({ start, from: at, to });
    at = to;
  } while (at < end);
  return steps;
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
  readonly #overflow: Overflow;
  readonly #spare: () => Sequence | null;
  readonly #first: Sequence;
  #prefix: readonly number[] = [];
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

  /** @param spare opens another sequence where a slot is free and nobody waits for it */
  constructor(sequence: Sequence, overflow: Overflow, spare: () => Sequence | null) {
    this.#sequence = sequence;
    this.#first = sequence;
    this.#overflow = overflow;
    this.#spare = spare;
  }

  /** Response tokens given so far. */
  get length(): number {
    return this.#ids.length;
  }

  /** Tokens of the prompt; 0 before it is given. */
  get promptTokens(): number {
    return this.#prefix.length;
  }

  /** Of these, those that the cache held already. */
  get reusedTokens(): number {
    return this.#first.reused;
  }

  /** How often the context was full and slid on. */
  get slides(): number {
    return this.#slides;
  }

  /** Whether it has not got a slot yet. */
  get waiting(): boolean {
    return this.#sequence.slot === null && this.#sequence.failure === null;
  }

  get failure(): GuardError | null {
    return this.#sequence.failure;
  }

  /**
   * Gives it the prompt; before anything else.
   *
   * @param reads the positions whose logits are wanted, ascending
   */
  prefill(ids: readonly number[], read: LogitsReader, reads: readonly number[]): Promise<void> {
    this.#prefix = ids;
    return this.#sequence.feed(ids, read, 0, reads);
  }

  /**
   * Gives it response tokens from an index on, in place of all that were there. `read` gets each token's response index.
   *
   * @throws {ContextLengthError} CONTEXT_EXCEEDED where it must not slide
   * @throws as `Sequence.feed`
   */
  async feed(from: number, ids: readonly number[], read: LogitsReader): Promise<void> {
    this.#ids.length = from;
    for (const id of ids) this.#ids.push(id);
    const steps =
      this.#overflow === "slide"
        ? plan(this.#start, this.#room, from, ids.length)
        : [{ start: 0, from, to: from + ids.length }];
    if (this.#overflow === "slide" && steps[0].start === this.#start) this.#readAhead(from, steps[0].to);
    const done: Promise<void>[] = [];
    for (const step of steps) {
      if (step.start !== this.#start) done.push(this.#slide(step));
      done.push(this.#feedStep(step.from, ids.slice(step.from - from, step.to - from), read));
    }
    await Promise.all(done);
  }

  /** Ends all that it holds. */
  close(reason: GuardError): void {
    for (const sequence of [...this.#retiring, this.#successor?.sequence, this.#sequence])
      sequence?.close(reason);
  }

  /** Response tokens that the context holds. */
  get #room(): number {
    return this.#sequence.limits.maxTokens - this.#prefix.length;
  }

  #feedStep(from: number, ids: readonly number[], read: LogitsReader): Promise<void> {
    const offset = this.#prefix.length - this.#start;
    const sequence = this.#sequence;
    const reader: LogitsReader = (logits, step, position, place) =>
      read(logits, step, position - offset, place);
    return this.#afterHandover(() => sequence.feed(ids, reader, from + offset));
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
    const sequence = this.#spare();
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

/** Where that fails, there is no successor when its time comes. */
function readAlong(sequence: Sequence, ids: readonly number[], at: number): void {
  sequence.feed(ids, () => {}, at, []).catch(() => {});
}
