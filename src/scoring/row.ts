import { InputError } from "../errors.js";
import type { ClassifyInput } from "../moderation/classification.js";
import type { Message } from "../tokenizer/chat-template/messages.js";
import { isRecord, parseJson } from "../validation/json.js";
import type { Line } from "./lines.js";

/** UTF-16 units that are left of a line that is too long to be carried along. */
const SHOWN = 1000;

/** What a line says, or why there is nothing in it to judge. */
export type Row = {
  /** The line with this in its field. */
  with(found: object): string;
} & ({ conversation: Pick<ClassifyInput, "messages" | "tools"> } | { problem: InputError });

/**
 * Reads a line. What is found is later put into its text rather than into what was parsed of it, so that numbers of any
 * size, and the order and spelling of all fields, stay as they came.
 *
 * @param field name of the field for what is found
 */
export function parseRow({ bytes, length }: Line, field: string): Row {
  // What is no object cannot take a field: it goes into one.
  const wrapped = (line: string, problem: InputError, more = {}): Row => ({
    with: (found) => JSON.stringify({ line, ...more, [field]: found }),
    problem,
  });
  if (bytes.length < length) {
    const message = `The line has ${length} bytes, more than ${bytes.length}. Raise --max-line.`;
    const line = bytes.toString("utf8").slice(0, SHOWN);
    return wrapped(line, new InputError("LINE_TOO_LONG", message), { bytes: length });
  }
  const text = bytes.toString("utf8");
  const value = parseObject(bytes, field);
  if (value instanceof InputError) return wrapped(text.trimEnd(), value);
  const body = text.trimEnd().slice(0, -1).trimEnd();
  const comma = Object.keys(value).length > 0 ? "," : "";
  const filled = (found: object) => `${body}${comma}${JSON.stringify(field)}:${JSON.stringify(found)}}`;
  const conversation = conversationOf(value);
  return conversation instanceof InputError
    ? { with: filled, problem: conversation }
    : { with: filled, conversation };
}

function parseObject(bytes: Buffer, field: string): Record<string, unknown> | InputError {
  let value: unknown;
  try {
    value = parseJson(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    // What the parser says would quote the line.
    const what = cause instanceof SyntaxError ? "not JSON, or nested too deep" : "not UTF-8";
    return new InputError("LINE_INVALID", `The line is ${what}. Write one JSON object a line.`, { cause });
  }
  if (!isRecord(value)) {
    return new InputError("LINE_INVALID", "The line is JSON, but no object. Write one object a line.");
  }
  if (Object.hasOwn(value, field)) {
    const message = `The row has a field ${JSON.stringify(field)} already. Name another with --field.`;
    return new InputError("FIELD_TAKEN", message);
  }
  return value;
}

const CONVERSATIONS = ["messages", "message", "prompt"];

/** The conversation: `messages` (the official test set says `message`) or `prompt`, and after it `response`, if there is one. */
function conversationOf(value: Record<string, unknown>): ClassifyInput | InputError {
  const given = CONVERSATIONS.filter((name) => value[name] != null);
  if (given.length !== 1) {
    return invalid(
      given.length === 0
        ? "has neither messages nor prompt"
        : `has ${given.join(" and ")}, where one belongs`,
    );
  }
  const [name] = given;
  const { [name]: said, response, tools } = value;
  if (name === "prompt" && typeof said !== "string") return invalid("has a prompt that is no text");
  if (name !== "prompt" && !Array.isArray(said)) return invalid(`has ${name} that are no list`);
  if (response != null && typeof response !== "string") return invalid("has a response that is no text");
  if (tools != null && !Array.isArray(tools)) return invalid("has tools that are no list");
  const messages = name === "prompt" ? [{ role: "user", content: said as string }] : (said as Message[]);
  const answer = response == null ? [] : [{ role: "assistant", content: response as string }];
  return { messages: [...messages, ...answer], tools: (tools as unknown[] | null) ?? undefined };
}

function invalid(what: string): InputError {
  return new InputError(
    "ROW_INVALID",
    `The row ${what}. Write {"messages": [{"role", "content"}, …]} or {"prompt", "response"?}.`,
  );
}
