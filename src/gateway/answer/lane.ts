import { AnswerFormatter } from "../../gate/answer-formatter.js";
import type { Attempt } from "../../gate/attempt.js";
import type { Spent } from "../../gate/attempt-sums.js";
import { Channel } from "../../gate/channel.js";
import { Gate } from "../../gate/gate.js";
import type { GateOptions, PartGate, RestartableStream, VerdictStream } from "../../gate/gate-options.js";
import type { TextPart } from "../../gate/parts.js";
import { RegeneratingGate } from "../../gate/regenerating-gate.js";
import type { ScoutOptions } from "../../gate/scout.js";
import { ModerationViolation } from "../../gate/violation.js";
import type { Dropped } from "../regenerate/dropped.js";
import type { Regeneration } from "../regenerate/regeneration.js";
import { Slot } from "./allow-list.js";
import type { Event, Released, TextTarget } from "./codec.js";

/** As what the guard reads a text: the answer, what a tool is called with, or what is put before, between and over again. */
export type Received = "answer" | "call" | "framing";

/** Is told of an answer's text: what comes for the guard, and what passes. */
export interface LaneWatch {
  received(text: string, as: Received): void;
  released(text: string): void;
  dropped(dropped: Dropped): void;
}

/** One choice of an answer on its way through its gate. */
export class Lane {
  input = new Channel<Released>();
  formatter: AnswerFormatter<Event | TextTarget | Slot>;
  readonly gate: PartGate<Event | TextTarget | Slot>;
  readonly #prefill: string;
  readonly #regeneration: Regeneration | null;
  /** Has the answer gone on with, into `input`. Until it is known how, it cannot be. */
  again: (attempt: Attempt, signal: AbortSignal) => void = ({ violation }) => {
    throw violation;
  };
  /** Of a whole answer, its text. */
  slot: Slot | null = null;
  /** Called when what comes in is dropped, and the answer is to be gone on with. */
  dropped: (reason: unknown) => void = () => {};
  readonly #watched: LaneWatch | null;

  /**
   * @param json the answer is to be JSON: its escapes are read as their characters
   * @param watched is told of the answer's text. Default: nobody is
   * @param regeneration the answer is gone on with where it is flagged. Default: it ends there
   */
  constructor(
    prefill: string,
    json: boolean,
    open: () => VerdictStream,
    options: GateOptions,
    scout: ScoutOptions | null,
    watched: LaneWatch | null = null,
    regeneration: Regeneration | null = null,
  ) {
    this.#watched = watched;
    this.#prefill = prefill;
    this.#regeneration = regeneration;
    this.formatter = new AnswerFormatter(prefill, { json });
    this.gate = regeneration
      ? new RegeneratingGate<Event | TextTarget | Slot>(
          (attempt) => (signal) => this.#source(attempt, signal),
          open as () => RestartableStream,
          {
            ...{ ...options, ...regeneration.gate },
            before: (attempt, released, spent) => this.#before(attempt, released, spent),
          },
        )
      : new Gate<Event | TextTarget | Slot>(this.input, open, options, { scout });
    this.gate.start();
  }

  #source(attempt: Attempt, signal: AbortSignal): Channel<Released> {
    if (attempt.attempt > 0) {
      this.input = new Channel();
      this.again(attempt, signal);
    } else signal.addEventListener("abort", () => this.dropped(signal.reason), { once: true });
    return this.input;
  }

  /** What the client has, as the guard has read it: read again, and not passed on. */
  #before({ violation, intervention }: Attempt, released: string, spent: Spent): Released[] {
    if (!violation || !intervention) return [];
    this.#watched?.dropped({ violation, intervention, released, judged: spent.judged, tokens: spent.tokens });
    (this.#regeneration as Regeneration).released(released.length, spent);
    this.formatter = new AnswerFormatter(this.#prefill);
    const key = this.slot ?? (this.#regeneration as Regeneration).seam.key;
    const parts = this.formatter.text("content", released, new Slot(released, "content"), key);
    return parts.map(
      (part): Released => (part.kind === "text" && !part.silent ? { ...part, again: true } : part),
    );
  }

  /** Takes a part of the answer. @param input of the attempt that it belongs to */
  async take(part: Released, input = this.input): Promise<void> {
    if (part.kind === "text") {
      const call = part.beside || (part.tag instanceof Slot && part.tag.call);
      this.#watched?.received(part.text, call ? "call" : part.silent || part.again ? "framing" : "answer");
    }
    await input.write(part);
  }

  /** What passes. @throws what the gate throws */
  async *passed(): AsyncGenerator<Released> {
    for await (const part of this.gate) {
      if (part.kind === "text") this.#watched?.released(part.text);
      yield part;
    }
  }

  /** Lets the guard read what a server says of its failure; what passes comes out in the slot. */
  async quote(slot: Slot, text: string): Promise<void> {
    await this.write(slot, text);
  }

  /**
   * Judges texts, and leaves in each slot what passes of it.
   *
   * @returns the violation that stopped them, if one did
   * @throws what the guard failed of
   */
  async judge(slots: readonly Slot[]): Promise<ModerationViolation | null> {
    const texts = slots.map(({ text }) => text);
    for (const slot of slots) slot.text = "";
    void this.#fill(slots, texts);
    const passed: TextPart<Event | TextTarget | Slot>[] = [];
    try {
      for await (const part of this.passed()) if (part.kind === "text") passed.push(part);
      this.#set(passed, Number.POSITIVE_INFINITY);
      return null;
    } catch (error) {
      if (!(error instanceof ModerationViolation)) throw error;
      // With stream-first more has passed than was judged.
      this.#set(passed, error.span?.start ?? 0);
      return error;
    }
  }

  /** Puts so many units of what passed into the slots. */
  #set(passed: readonly TextPart<Event | TextTarget | Slot>[], most: number): void {
    let left = most;
    for (const { text, tag } of passed) {
      const own = { text: text.slice(0, left), tag };
      if (tag instanceof Slot) tag.text += this.formatter.source({ kind: "text", ...own });
      left -= own.text.length;
    }
  }

  async #fill(slots: readonly Slot[], texts: readonly string[]): Promise<void> {
    const { input } = this;
    let failure: { error: unknown } | undefined;
    try {
      for (const [i, slot] of slots.entries()) await this.write(slot, texts[i], input);
    } catch (error) {
      failure = { error };
    }
    input.close(failure);
  }

  /** Lets the guard read a text; what passes comes out in the slot. @param input of the attempt that it belongs to */
  async write(slot: Slot, text: string, input = this.input): Promise<void> {
    const parts = [...this.formatter.text(slot.channel, text, slot, slot), ...this.formatter.end(slot, slot)];
    for (const part of parts) await this.take(part, input);
  }
}
