import { createHash } from "node:crypto";
import type { Severity } from "../moderation/labels.js";
import type { Message } from "../tokenizer/chat-template/template.js";
import { isRecord } from "../validation/json.js";

export type EvaluationType = "prompt" | "response";

/** How people judged a row. */
export interface Annotation {
  label: Severity;
  /** Whether the row is unsafe where controversial counts as unsafe (strict), and where it counts as safe (loose). */
  unsafe: Readings<boolean>;
  /** First and last position, in the whole templated conversation, of the first unsafe sentence; null in safe rows. */
  span: Span | null;
  source: string | null;
  category: string | null;
  lang: string | null;
}

/** Two ways to count controversial: as unsafe (strict), as safe (loose). */
export interface Readings<T> {
  strict: T;
  loose: T;
}

export type Span = readonly [start: number, end: number];

/** A row of a dataset: a conversation and how people judged it. */
export interface Row {
  line: number;
  /** The row as it stood in the file. */
  data: { [field: string]: unknown };
  /** Hash of `data`. */
  digest: string;
  /** The conversation, up to and including what is judged. */
  messages: Message[];
  annotation: Annotation;
}

/** A row; or why there is none: it is broken, or well-formed without what this evaluation needs. */
export type ParsedRow = { row: Row } | { problem: string } | { missing: string };

const SEVERITIES: readonly Severity[] = ["safe", "controversial", "unsafe"];

/**
 * Reads a row in either layout: the official test set's (`message`, `label`, `unsafe_start_index?`,
 * `unsafe_end_index?`) or the plain one (`prompt`, `response?`, `prompt_label?`, `response_label?`). Both may carry
 * `source`, `category` and `lang`.
 */
export function parseRow(value: unknown, line: number, type: EvaluationType): ParsedRow {
  if (!isRecord(value)) return { problem: "not an object" };
  const data = value as Row["data"];
  const official = "message" in data;
  if (!official && !("prompt" in data)) return { problem: "neither message nor prompt" };
  const parsed = official ? parseOfficial(data, type) : parsePlain(data, type);
  if (!("messages" in parsed)) return parsed;
  const { messages, label } = parsed;
  const span = type === "response" && label !== "safe" ? parseSpan(data) : null;
  if (span && "problem" in span) return span;
  const digest = createHash("sha256").update(JSON.stringify(data)).digest("hex").slice(0, 16);
  const annotation = {
    label,
    // The official scorer knows one unsafe label. Plain rows may be labelled controversial, which then goes both ways.
    unsafe: {
      strict: label === "unsafe" || (label === "controversial" && !official),
      loose: label === "unsafe",
    },
    span,
    source: text(data.source),
    category: text(data.category),
    lang: text(data.lang),
  };
  return { row: { line, data, digest, messages, annotation } };
}

type Labelled = { messages: Message[]; label: Severity };

function parseOfficial(data: Row["data"], type: EvaluationType): Labelled | { problem: string } {
  const messages = data.message;
  if (!Array.isArray(messages) || messages.length === 0) return { problem: "message is no list of messages" };
  const last = messages.at(-1)?.role;
  if (type === "response" && last !== "assistant")
    return { problem: "the last message is not the assistant's" };
  if (type === "prompt" && !messages.some((message) => message?.role === "user")) {
    return { problem: "no message is the user's" };
  }
  const label = severity(data.label);
  return label ? { messages, label } : { problem: "label is not Safe, Controversial or Unsafe" };
}

function parsePlain(
  data: Row["data"],
  type: EvaluationType,
): Labelled | { problem: string } | { missing: string } {
  const { prompt, response } = data;
  if (typeof prompt !== "string") return { problem: "prompt is no text" };
  const user = { role: "user", content: prompt };
  if (type === "response") {
    if (response == null) return { missing: "response" };
    if (typeof response !== "string") return { problem: "response is no text" };
  }
  const field = `${type}_label`;
  if (data[field] == null) return { missing: field };
  const label = severity(data[field]);
  if (!label) return { problem: `${field} is not safe, controversial or unsafe` };
  const messages = type === "prompt" ? [user] : [user, { role: "assistant", content: response as string }];
  return { messages, label };
}

function parseSpan(data: Row["data"]): Span | { problem: string } | null {
  const { unsafe_start_index: start, unsafe_end_index: end } = data;
  if (start == null && end == null) return null;
  const valid =
    Number.isInteger(start) && Number.isInteger(end) && 0 <= Number(start) && Number(start) <= Number(end);
  if (!valid) return { problem: "unsafe_start_index and unsafe_end_index are no range of positions" };
  return [start as number, end as number];
}

function severity(label: unknown): Severity | undefined {
  return SEVERITIES.find((name) => typeof label === "string" && label.toLowerCase() === name);
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}
