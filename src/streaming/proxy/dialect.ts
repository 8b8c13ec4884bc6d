import type { Policy } from "../../moderation/policy.js";
import type { Part } from "../held.js";
import type { ModerationViolation } from "../violation.js";
import type { ApiError } from "./api-error.js";
import type { Ask } from "./ask.js";
import type { Json } from "./json.js";

/** An event to send, as JSON. */
export type Event = Json;

/** Where a stretch of an answer's text belongs. The dialect makes them and reads them. */
export interface Place {
  field: string;
  base: Json;
}

/** A part of an answer and the choice it belongs to; null: of all. */
export interface Routed {
  choice: number | null;
  part: Part<Event | Place>;
}

/** How one answer is read and written again. */
export interface Answer {
  /** Takes an event of the model's stream apart. @throws {RequestError} where it holds what cannot be judged */
  read(event: Json): Routed[];
  /** The event that carries released text. */
  write(choice: number, text: string, place: Place): Event;
  /** The events that end a choice that was stopped. */
  stop(choice: number, violation: ModerationViolation): Event[];
  /** The event that tells of an error. */
  fail(error: ApiError): Event;
  /** What ends the stream after its last event, if anything. */
  readonly terminator: string | null;
  /** An event's name, where events have one. */
  name(event: Event): string | null;
}

/** How an endpoint's answers are read and written. */
export interface Answers {
  /** A new answer in the form of a stream. */
  answer(ask: Ask): Answer;
  /** The field that a whole answer's texts are in. */
  readonly list: "choices" | "output";
  /** The texts of a whole answer, in order; what passed, and what did not, is then put in its place. */
  whole(body: Json, ask: Ask): WholeText[];
  /** Marks a whole answer as stopped. */
  stopWhole(body: Json, violations: (ModerationViolation | null)[]): void;
}

/** One of the API's endpoints. */
export interface Dialect extends Answers {
  /** @throws {InputError} where the request holds what cannot be judged */
  ask(body: Json, policy: Policy): Ask;
}

/** A text in a whole answer. */
export interface WholeText {
  choice: number;
  channel: "reasoning" | "content";
  text: string;
  set(text: string): void;
}
