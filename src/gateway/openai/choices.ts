import type { AnswerFormatter } from "../../gate/answer-formatter.js";
import type { ModerationViolation } from "../../gate/violation.js";
import { isRecord, type Json, list, record } from "../../validation/json.js";
import { type Fields, invalid, level, type Slot } from "../answer/allow-list.js";
import type { CodecOptions, Event, Routed, StreamCodec, TextTarget } from "../answer/codec.js";
import { EventReader, judgeCalls, type Said } from "../answer/readers.js";
import type { RequestError } from "../api-error.js";
import type { Sent } from "../regenerate/seam.js";
import { choiceFilters, moderationOf, promptFilters } from "./annotations.js";
import { bodyFields } from "./choices-fields.js";
import { indexOf } from "./whole-choices.js";

/** What differs between chat completions and completions. */
export interface ChoicesForm {
  /** Fields of an event of which the server has sent none yet. */
  event: Json;
  /** Fields of a choice without text. */
  choice: Json;
  /** Fields that pass of a choice in an event. */
  fields: Fields;
  /** The fields of a choice, or of its delta, that carry a text. */
  write(kind: string, text: string): Json;
}

const body = level(bodyFields);
/** The kind of a reasoning that stands in both of its fields. */
const BOTH = "reasoning_content reasoning";
/** Text that log probabilities may lag behind. */
const LONGEST_BEFORE = 256;

/** An answer in numbered choices, as chat completions and completions stream it. */
export class ChoicesAnswer implements StreamCodec {
  readonly terminator = "[DONE]";
  readonly #options: CodecOptions;
  readonly #formatters: AnswerFormatter<Event | TextTarget | Slot>[];
  readonly #form: ChoicesForm;
  readonly #choice;
  /** Where each choice's text went last: text in the same place is joined. */
  readonly #targets: { key: string; kind: string; target: TextTarget }[] = [];
  readonly #before: string[];
  readonly #ended = new Set<number>();
  #begun = false;
  /** The first event's fields, for events of the proxy's own. */
  #first: Json | null = null;

  constructor(
    options: CodecOptions,
    formatters: AnswerFormatter<Event | TextTarget | Slot>[],
    form: ChoicesForm,
  ) {
    this.#options = options;
    this.#formatters = formatters;
    this.#form = form;
    this.#choice = level(form.fields);
    this.#before = formatters.map(() => "");
  }

  read(event: Json): Routed[] {
    const { choices, ...rest } = event;
    const { usage, ...passed } = body(rest, new EventReader(this.#options)) as Json;
    const [envelope, extras] = partition(passed, isOfEvery);
    if (envelope.id) this.#first ??= envelope;
    const routed: Routed[] = [];
    let told: Json = extras;
    for (const value of optionalChoices(choices)) {
      if (!isRecord(value)) throw invalid("a choice that is no object");
      const choice = indexOf(value, 0, this.#formatters.length);
      routed.push(...this.#readChoice(value, choice, envelope, told));
      told = {};
    }
    const [known, opened] = partition(told, ([name]) => name in bodyFields);
    if (usage !== undefined && usage !== null) {
      routed.push({ choice: null, part: item({ ...envelope, ...known, choices: [], usage }, false) });
      told = opened;
    }
    if (Object.keys(told).length > 0) {
      // What belongs to no choice comes in its place among the first one's text.
      routed.push({ choice: 0, part: item({ ...envelope, ...told, choices: [] }, false) });
    }
    return routed;
  }

  ended(choice: number): boolean {
    return this.#ended.has(choice);
  }

  stop(choice: number, violation: ModerationViolation): Event[] {
    if (this.#options.errors === "nemo") return [nemoError(violation)];
    const envelope = { ...this.#form.event, ...this.#first };
    const replacement = this.#options.replacement(violation);
    const event = this.#event(envelope, choice, { finish_reason: "content_filter" });
    return [
      ...(replacement === null
        ? []
        : [this.#event(envelope, choice, this.#form.write("content", replacement))]),
      { ...event, qwen3guard: violation.toJSON() },
    ];
  }

  fail({ body }: RequestError): Event {
    return { ...body };
  }

  opening(): Event[] {
    const { annotations } = this.#options;
    if (annotations?.style !== "azure") return [];
    const blank = { id: "", object: "", created: 0, model: "" };
    return [{ ...blank, choices: [], prompt_filter_results: promptFilters(annotations) }];
  }

  closing(): Event[] {
    const { annotations } = this.#options;
    if (!annotations) return [];
    const envelope = { ...this.#form.event, ...this.#first };
    if (annotations.style === "openai") {
      return [{ ...envelope, choices: [], moderation: moderationOf(annotations) }];
    }
    return annotations.keepers.map((keeper, index) => ({
      ...envelope,
      id: "",
      choices: [{ index, finish_reason: null, ...choiceFilters(keeper) }],
    }));
  }

  keepAlive(): string {
    return ": keep-alive\n\n";
  }

  get sent(): Sent {
    return { begun: this.#begun, parts: 0, open: [] };
  }

  frame(event: Event): string {
    this.#begun = true;
    return `data: ${JSON.stringify(event)}\n\n`;
  }

  /** A choice's text, and after it what tells of the text. */
  #readChoice({ index: _, ...value }: Json, choice: number, envelope: Json, extras: Json): Routed[] {
    const reader = new EventReader(this.#options, this.#before[choice]);
    const { delta, text: __, ...own } = this.#choice(value, reader) as Json;
    this.#before[choice] = reader.content.slice(-LONGEST_BEFORE);
    const [nulls, told] = partition(own, isEmpty);
    const { role, ...fields } = record(delta);
    const calls = pick(fields, ({ length }) => length !== 0);
    const formatter = this.#formatters[choice];
    const routed = withoutTwins(reader.texts).flatMap((said): Routed[] => {
      const target = this.#target(choice, envelope, nulls, role, said);
      const parts = formatter.text(said.channel, said.text, target, said.kind);
      return parts.map((part) => ({ choice, part }));
    });
    const ends = told.finish_reason !== undefined;
    if (ends) {
      this.#ended.add(choice);
      routed.push(...this.#endTexts(choice));
    }
    for (const part of judgeCalls(reader.calls, formatter)) routed.push({ choice, part });
    const opens = role !== undefined && role !== null && reader.texts.length === 0;
    const more = { ...calls, ...(opens && { role, content: fields.content ?? "" }) };
    if (ends || [told, more, extras].some((fields) => Object.keys(fields).length > 0)) {
      const choiceFields = { ...nulls, ...(delta !== undefined && { delta: more }), ...told };
      // A call goes out at once; one that is judged goes behind its verdict, piece by piece.
      const boundary =
        ends || (("tool_calls" in calls || "function_call" in calls) && this.#options.tools !== "judge");
      routed.push({
        choice,
        part: { ...item(this.#event({ ...envelope, ...extras }, choice, choiceFields), boundary), ends },
      });
    }
    return routed;
  }

  /** A choice's texts are at their end: half an escape of JSON stands for itself. */
  #endTexts(choice: number): Routed[] {
    const last = this.#targets[choice];
    if (!last) return [];
    return this.#formatters[choice].end(last.target, last.kind).map((part) => ({ choice, part }));
  }

  /** The place of a text; the same one as long as text comes in events that differ in nothing else. */
  #target(choice: number, envelope: Json, nulls: Json, role: unknown, { kind }: Said): TextTarget {
    const key = JSON.stringify([kind, role, envelope, nulls]);
    const last = this.#targets[choice];
    if (last?.key === key) return last.target;
    const target = {
      write: (text: string) => {
        const own = this.#form.write(kind, text);
        const delta =
          isRecord(own.delta) && typeof role === "string" ? { delta: { role, ...own.delta } } : {};
        return this.#event(envelope, choice, { ...nulls, ...own, ...delta });
      },
    };
    this.#targets[choice] = { key, kind, target };
    return target;
  }

  #event(envelope: Json, index: number, fields: Json): Event {
    return { ...envelope, choices: [{ index, ...this.#form.choice, finish_reason: null, ...fields }] };
  }
}

/** How NeMo Guardrails ends a stream that it stopped. */
function nemoError(violation: ModerationViolation): Event {
  const { message, category } = violation;
  const error = { message, type: "guardrails_violation", param: category, code: "content_blocked" };
  return { error: { ...error, qwen3guard: violation.toJSON() } };
}

/** Texts of which one field follows another with the same in it, as servers do that name reasoning in both ways, as one. */
function withoutTwins(texts: readonly Said[]): Said[] {
  const single: Said[] = [];
  for (const said of texts) {
    const last = single.at(-1);
    const twin = last?.kind === "reasoning_content" && said.kind === "reasoning" && last.text === said.text;
    if (last && twin) single[single.length - 1] = { ...last, kind: BOTH };
    else single.push(said);
  }
  return single;
}

function optionalChoices(choices: unknown): unknown[] {
  if (choices === undefined || choices === null || Array.isArray(choices)) return list(choices);
  throw invalid("choices that are no list");
}

/** Whether a field goes with every event; others tell of something once. */
function isOfEvery([name, value]: [string, unknown]): boolean {
  return typeof value === "string" ? name in bodyFields : typeof value !== "object" || value === null;
}

/** Whether a field of a choice says nothing. */
function isEmpty([, value]: [string, unknown]): boolean {
  return value === null || value === "";
}

function partition(fields: Json, test: (entry: [string, unknown]) => boolean): [Json, Json] {
  const entries = Object.entries(fields);
  return [
    Object.fromEntries(entries.filter(test)),
    Object.fromEntries(entries.filter((entry) => !test(entry))),
  ];
}

/** The fields of a delta that say anything. */
function pick(fields: Json, says: (value: { length?: number }) => boolean): Json {
  const entries = Object.entries(fields).filter(
    ([name, value]) => name !== "content" && value !== null && value !== "" && says(value as object),
  );
  return Object.fromEntries(entries);
}

function item(event: Event, boundary: boolean): { kind: "item"; item: Event; boundary: boolean } {
  return { kind: "item", item: event, boundary };
}
