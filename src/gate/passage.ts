import { GuardError } from "../errors.js";
import { type HoldBuffer, IdsHoldBuffer, TextHoldBuffer } from "./hold-buffer.js";
import { Ahead, lengthOf, Outbox, type Part, PartQueue, weightOf } from "./parts.js";
import type { Span } from "./violation.js";

/** Most that is judged at once, so that a flag is not found long after it could be. */
const PUSH_TEXT = 1024;
const PUSH_IDS = 256;
/** Items that may wait behind text whose fate is open. */
const MAX_HELD_ITEMS = 8192;

/** What is given to the guard at once. */
export interface Taken {
  text: string;
  ids: number[];
  /** The text is complete there. */
  boundary: boolean;
}

/** Parts on their way through a gate: come in, with the guard or held, ready to be read. Moves them, and decides nothing. */
export class Passage<T> {
  /** What came and is not with the guard yet. */
  readonly #incoming = new PartQueue<T>();
  #buffer: HoldBuffer<T> = new TextHoldBuffer<T>();
  readonly #ahead = new Ahead<T>();
  readonly #outgoing = new Outbox<T>();
  #heldItems = 0;
  /** Something that tells how the text ended has come, and waits. */
  #endWaits = false;
  /** Weight of what is with the guard. */
  #underway = 0;
  #hasText = false;
  #received = 0;
  #released = 0;
  #peakLag = 0;

  /** All that came, in UTF-16 units, or ids. */
  get received(): number {
    return this.#received;
  }

  /** Of that, what was read. */
  get released(): number {
    return this.#released;
  }

  /** Whether there is anything for the guard. */
  get hasIncoming(): boolean {
    return this.#incoming.size > 0;
  }

  /** What came and is not judged yet. */
  get lag(): number {
    return this.#incoming.weight + this.#underway;
  }

  get peakLag(): number {
    return this.#peakLag;
  }

  /** What is ready, and nobody has read. */
  get unread(): number {
    return this.#outgoing.weight;
  }

  /** In UTF-16 units, or ids. */
  get unreadLength(): number {
    return this.#outgoing.length;
  }

  get isReadable(): boolean {
    return this.#outgoing.size > 0;
  }

  /** Whether any text went to the guard. */
  get hasText(): boolean {
    return this.#hasText;
  }

  /** In UTF-16 units, or ids. */
  get judged(): number {
    return this.#buffer.judged;
  }

  /** Whether all that came has been judged for good. */
  get isComplete(): boolean {
    return this.#buffer.complete;
  }

  /** Whether nothing that came is still held. */
  get isEmpty(): boolean {
    return this.#incoming.size === 0 && this.#buffer.isEmpty;
  }

  receive(part: Part<T>): void {
    this.#received += lengthOf(part);
    this.#incoming.push(part);
    this.#peakLag = Math.max(this.#peakLag, this.lag);
  }

  /** Takes what has come for the guard, up to the first boundary or a bound. @throws {GuardError} HELD_TOO_MUCH */
  take(): Taken {
    const taken: Taken = { text: "", ids: [], boundary: false };
    while (!taken.boundary && taken.text.length < PUSH_TEXT && taken.ids.length < PUSH_IDS) {
      const part = this.#incoming.take(PUSH_TEXT - taken.text.length, PUSH_IDS - taken.ids.length);
      if (!part) break;
      this.#underway += weightOf(part);
      if (part.kind === "ids" && !(this.#buffer instanceof IdsHoldBuffer))
        this.#buffer = new IdsHoldBuffer<T>();
      this.#buffer.append(part);
      if (part.kind === "text") taken.text += part.text;
      else if (part.kind === "ids") taken.ids.push(...part.ids);
      else {
        this.#heldItems++;
        taken.boundary = part.boundary === true;
      }
    }
    if (this.#heldItems > MAX_HELD_ITEMS) {
      throw new GuardError("HELD_TOO_MUCH", "Too many events wait behind text whose verdict is still open.");
    }
    this.#hasText ||= taken.text !== "";
    return taken;
  }

  /** All that was taken has been judged. */
  settleLag(): void {
    this.#underway = 0;
  }

  /** Takes a token that has settled. Says whether its reader gets any of it. */
  judge(token: { text: string }): boolean {
    return this.#buffer.judge(token);
  }

  /** Hands on what the first tokens stand for, and those that are let go ahead of their settling. */
  release(tokens: number, ahead: readonly { text: string }[]): void {
    this.#release(this.#buffer.release(tokens, ahead));
  }

  /** How many of the tokens that are clear may go so that the newest so many stay; the text ends in a word then. */
  allBut(newest: number, clear: number): number {
    return this.#buffer.allBut(newest, clear);
  }

  /** Hands on all that came. */
  releaseAll(): void {
    this.#release(this.#buffer.releaseAll());
    this.#release(this.#incoming.takeAll());
    this.#underway = 0;
  }

  /** Hands on a part whose turn has not come, if it need not wait for it. */
  passAhead(part: Part<T>): void {
    this.#endWaits ||= part.kind === "item" && part.ends === true;
    // What leaves at once must not overtake it.
    if (this.#endWaits) return;
    this.#ahead.add(part);
    this.#outgoing.push(part);
  }

  passIncomingAhead(): void {
    for (const part of this.#incoming) this.passAhead(part);
  }

  /** Hands on what nobody judges. */
  pass(part: Part<T>): void {
    this.#received += lengthOf(part);
    this.#outgoing.push(part);
  }

  /** The next part for the reader. */
  read(): Part<T> | undefined {
    const part = this.#outgoing.take();
    if (part) this.#released += lengthOf(part);
    return part;
  }

  /** Drops what nobody has read yet. */
  dropUnread(): void {
    this.#outgoing.clear();
  }

  /** Nothing more comes in. @param whole half a character at the end comes out as it is */
  close(whole: boolean): void {
    if (whole) this.#outgoing.pushHalf();
    this.#incoming.takeAll();
  }

  /** From the last token that was released to the last that was judged. */
  span(): Span {
    return this.#buffer.span();
  }

  #release(parts: readonly Part<T>[]): void {
    for (const part of parts) {
      if (part.kind === "item" && this.#heldItems > 0) this.#heldItems--;
      const rest = this.#ahead.rest(part);
      if (rest && (rest.kind !== "text" || lengthOf(rest) > 0)) this.#outgoing.push(rest);
    }
    if (this.isEmpty) this.#endWaits = false;
  }
}
