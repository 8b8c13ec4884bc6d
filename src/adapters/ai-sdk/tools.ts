import { GuardError } from "../../errors.js";
import type { AnswerFormatter } from "../../gate/answer-formatter.js";
import { JsonText } from "../../gate/json-text.js";
import type { Part } from "../../gate/parts.js";
import type { Policy } from "../../moderation/policy.js";
import { asJson, textsIn } from "../../tokenizer/chat-template/standing.js";
import { unsealed } from "./prompt.js";
import type { Content, StreamPart } from "./types.js";

/** A call's input as it comes, and as the guard was given it. */
interface Call {
  name: string;
  /** Its deltas are JSON, as the input of the finished call always is. */
  json: boolean;
  said: string;
}

/**
 * Calls of tools in an answer, as the policy has them: judged as part of the answer ahead of the parts that tell of them,
 * refused, or let by.
 */
export class ToolCalls<T extends object> {
  readonly #policy: Pick<Policy, "tools" | "toolResults">;
  readonly #formatter: AnswerFormatter<T>;
  /** By their ids. */
  readonly #calls = new Map<string, Call>();

  constructor(policy: Pick<Policy, "tools" | "toolResults">, formatter: AnswerFormatter<T>) {
    this.#policy = policy;
    this.#formatter = formatter;
  }

  /**
   * What is to be judged before a part passes.
   *
   * @throws {GuardError} TOOL_CALL_REFUSED
   */
  *before(part: StreamPart | Content): Generator<Part<T>> {
    if (this.#policy.tools === "pass" || !TOOLS.has(part.type)) return;
    if (this.#policy.tools === "refuse") throw refused();
    switch (part.type) {
      case "tool-input-start": {
        const json = part.inputEncoding !== "text";
        this.#calls.set(part.id, { name: part.toolName, json, said: "" });
        yield* this.#judge(`${part.id} name`, [part.toolName, part.title]);
        break;
      }
      case "tool-input-delta": {
        const call = this.#calls.get(part.id);
        if (call) call.said += part.delta;
        const json = call?.json ?? true;
        // A call may come under the id of an earlier one, in another encoding.
        yield* this.#formatter.beside(part.delta, `${part.id} input${json ? "" : " text"}`, json);
        break;
      }
      case "tool-call":
        yield* this.#finished(part);
        break;
      case "tool-result":
        if (this.#policy.toolResults === "judge") {
          yield* this.#judge(`${part.toolCallId} result`, [part.toolName, ...textsIn(unsealed(part.result))]);
        }
        break;
      default:
    }
  }

  /** What of a finished call has not come piece by piece. */
  *#finished({ toolCallId: id, toolName, input }: { toolCallId: string; toolName: string; input: string }) {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (call?.name !== toolName) yield* this.#judge(`${id} call`, [toolName]);
    if (!call || !says(call, input)) yield* this.#judge(`${id} whole`, read(input));
  }

  #judge(key: string, texts: readonly (string | undefined)[]): Part<T>[] {
    return this.#formatter.beside(texts.filter(Boolean).join("\n"), key, false);
  }
}

const TOOLS = new Set([
  "tool-input-start",
  "tool-input-delta",
  "tool-input-end",
  "tool-call",
  "tool-result",
  "tool-approval-request",
]);

/** Without what tells of tools. */
export function withoutTools(content: readonly Content[]): Content[] {
  return content.filter(({ type }) => !TOOLS.has(type));
}

/** Whether a finished call's input is what came of it piece by piece. */
function says({ json, said }: Call, input: string): boolean {
  return json ? said === input : JSON.stringify(said) === input;
}

/** JSON as its parser has it. A provider may give an object in its place, which the types forbid: the texts in that. */
function read(input: unknown): string[] {
  if (typeof input !== "string") return textsIn(asJson(input, "a call's arguments"));
  const text = new JsonText();
  return [text.push(input) + text.end()];
}

function refused(): GuardError {
  return new GuardError(
    "TOOL_CALL_REFUSED",
    'The model\'s answer calls a tool, which the policy refuses. Ask without tools, or set "tools" in the policy to ' +
      '"judge" or "pass".',
  );
}
