import type { AnswerFormatter } from "../../gate/answer-formatter.js";
import type { Part } from "../../gate/parts.js";
import type { ModerationViolation } from "../../gate/violation.js";
import type { Policy } from "../../moderation/policy.js";
import type { Json } from "../../validation/json.js";
import type { RequestError } from "../api-error.js";
import type { Annotations } from "../openai/annotations.js";
import type { Sent } from "../regenerate/seam.js";
import type { FieldReader } from "../request/fields.js";
import type { ParsedRequest } from "../request/parsed-request.js";
import type { Slot } from "./allow-list.js";
import type { Media } from "./media.js";
import type { OpenFields } from "./open-fields.js";

/** An event to send, as JSON. */
export type Event = Json;

/** Where a stretch of a streamed answer's text belongs: in an event like the one that it came in. */
export interface TextTarget {
  write(text: string): Event;
}

/** What goes through a choice's gate: events, and text with the place that it belongs to. */
export type Released = Part<Event | TextTarget | Slot>;

/** A part of an answer and the choice it belongs to; null: of all, told last. */
export interface Routed {
  choice: number | null;
  part: Released;
}

/** What answers are read with. */
export interface CodecOptions {
  parsed: ParsedRequest;
  /** The request's body. */
  request: Json;
  /** Names of fields that pass unread. */
  open: OpenFields;
  /** What answers in the model's place where the policy stops it; null: nothing does. */
  replacement(violation: ModerationViolation): string | null;
  /** What becomes of calls of tools. Default "pass". */
  tools?: Policy["tools"];
  /** What is told of prompt and answer beside them. Default: nothing. */
  annotations?: Annotations | null;
  /** How a stream says that it was stopped. Default "protocol": as the protocol does. */
  errors?: "protocol" | "nemo";
}

/** How one streamed answer is read and written again. */
export interface StreamCodec {
  /** Takes an event of the model's stream apart. @throws {RequestError} where it holds what cannot be judged */
  read(event: Json): Routed[];
  /** Whether the model has said that a choice is at its end. */
  ended(choice: number): boolean;
  /** The events that end a choice that was stopped, whatever was sent of it: the replacement, and why. */
  stop(choice: number, violation: ModerationViolation): Event[];
  /** The event that tells of an error. */
  fail(failure: RequestError): Event;
  /** What ends the stream after its last event, if anything. */
  readonly terminator: string | null;
  /** An event as it is sent, once and in order. */
  frame(event: Event): string;
  /** What comes before all else, once the prompt has passed, if anything. */
  opening?(): Event[];
  /** What is told of the choices once all of them are over, if anything. */
  closing?(): Event[];
  /** What says nothing and keeps a connection open. */
  keepAlive(): string;
  /** What the client has been sent. Of those whose answers can be gone on with. */
  readonly sent?: Sent;
}

/** A whole answer with all that passes of it: its texts are still to be judged. */
export interface WholeAnswer {
  body: Json;
  /** Of each choice, in the order in which the guard reads them. */
  slots: Slot[][];
  /** Leaves of the choices that were stopped no more than their texts, or the replacement in their place. */
  stop(violations: (ModerationViolation | null)[]): void;
}

/** How an endpoint's answers are read and written. */
export interface ResponseCodec {
  readonly media: Media;
  /** Whether the protocol has answers that refuse, so that a blocked prompt gets one in place of an error. */
  readonly refuses: boolean;
  /** A body that tells of an error. */
  error(failure: RequestError): Json;
  /** A new answer in the form of a stream. */
  stream(options: CodecOptions, formatters: AnswerFormatter<Event | TextTarget | Slot>[]): StreamCodec;
  /** @throws {RequestError} upstream_invalid where it is none */
  whole(body: Json, options: CodecOptions): WholeAnswer;
  /** A whole answer with what is told of it. */
  annotate(body: Json, annotations: Annotations): Json;
  /** A whole answer of a model that said nothing. */
  blank(options: CodecOptions): Json;
}

/** One of the API's endpoints. */
export interface Endpoint extends ResponseCodec {
  /** @throws {InputError} where the request holds what cannot be judged */
  parse(body: Json, reader: FieldReader): ParsedRequest;
}
