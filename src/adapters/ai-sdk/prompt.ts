import { InputError } from "../../errors.js";
import { promptOf } from "../../gateway/request/beside.js";
import type { TextMessage } from "../../gateway/request/messages.js";
import type { Prompt } from "../../gateway/request/parsed-request.js";
import type { Policy } from "../../moderation/policy.js";
import { rejectAttachment } from "../../tokenizer/chat-template/messages.js";
import { asJson, textsIn } from "../../tokenizer/chat-template/standing.js";
import { record } from "../../validation/json.js";
import type { CallOptions } from "./types.js";

type Fields = Record<string, unknown>;

/** Provider options that hold what only the provider can read: it signed or encrypted it. */
const SEALED = [
  "signature",
  "redactedData",
  "thoughtSignature",
  "reasoningEncryptedContent",
  "encryptedContent",
];
/** As what is sealed looks: base64, or the like of it. Under such a name a text for people is one all the same. */
const SEAL = /^[\w+/=.:~-]*$/;
/** No spaces, and short: names, ids, settings. */
const WORD = /^[!-~]{0,128}$/;
/** Provider options that bring in turns which are stored with the provider. */
const STORED = /^(previous_?(response|interaction)_?id|conversation(_?id)?|cached_?content|thread_?id)$/i;

/**
 * The conversation of a call as the guard's messages, with the texts beside it: of tools, of the answer's schema, of
 * provider options; and how the answer begins where the call says so.
 *
 * @throws {InputError} ATTACHMENT_UNREADABLE, REQUEST_UNJUDGED
 */
export function readPrompt(params: CallOptions, policy: Policy): Prompt {
  const { prompt, tools = [], toolChoice, providerOptions } = params;
  const { type: _, ...format } = record(asJson(params.responseFormat, "the answer's format"));
  const reader = new PromptReader(policy);
  const messages = prompt.flatMap((message) => reader.message(message));
  reader.options(providerOptions);
  const standing = [...tools.flatMap(toolTexts), ...optionTexts(toolChoice), ...textsIn(format)];
  return promptOf(messages, { standing, passing: reader.beside }, { policy, unjudged: [] });
}

function toolTexts(tool: Fields): string[] {
  const {
    type: _,
    id,
    name,
    description,
    inputSchema,
    inputExamples,
    args,
    providerOptions,
    ...rest
  } = record(asJson(tool, "their tools"));
  return [
    ...textsIn([name, description, inputSchema, inputExamples, rest]),
    ...optionTexts([id, args, providerOptions]),
  ];
}

/** The texts in provider options that are more than a name. */
function optionTexts(options: unknown): string[] {
  return textsIn(unsealed(options)).filter((text) => !WORD.test(text));
}

/** A value as JSON, without what only the provider can read. @throws {InputError} MESSAGES_INVALID */
export function unsealed(value: unknown): unknown {
  return withoutSeals(asJson(value, "options or results"));
}

function withoutSeals(options: unknown): unknown {
  if (Array.isArray(options)) return options.map(withoutSeals);
  if (typeof options !== "object" || options === null) return options;
  const isSealed = (name: string, value: unknown) =>
    SEALED.includes(name) && typeof value === "string" && SEAL.test(value);
  const open = Object.entries(options).filter(([name, value]) => !isSealed(name, value));
  return Object.fromEntries(open.map(([name, value]) => [name, withoutSeals(value)]));
}

class PromptReader {
  /** Texts of provider options. */
  readonly beside: string[] = [];
  readonly #policy: Policy;

  constructor(policy: Policy) {
    this.#policy = policy;
  }

  /** Of provider options: their texts; stored turns are out of the guard's reach. */
  options(options: unknown): void {
    for (const own of Object.values(record(asJson(options, "provider options")))) {
      for (const [name, value] of Object.entries(record(own))) {
        if (STORED.test(name) && value != null) this.#unjudged(`turns stored with the provider (${name})`);
      }
    }
    this.beside.push(...optionTexts(options));
  }

  message({ role, content, providerOptions }: CallOptions["prompt"][number]): TextMessage[] {
    this.options(providerOptions);
    if (typeof content === "string") return [{ role, content }];
    const turn = new Turn(role);
    for (const part of content as readonly object[] as readonly Fields[]) this.#part(part, turn);
    return turn.end();
  }

  #part(part: Fields, turn: Turn): void {
    this.options(part.providerOptions);
    switch (part.type) {
      case "text":
        turn.content += text(part.text);
        break;
      case "reasoning":
        turn.reasoning += text(part.text);
        break;
      case "file":
        turn.content += this.#file(part, "a file");
        break;
      case "reasoning-file":
        rejectAttachment(`a file (${mediaType(part)})`, this.#policy.attachments);
        break;
      case "tool-call":
        turn.calls.push({
          type: "function",
          function: { name: part.toolName, arguments: asJson(part.input, "a call's arguments") },
        });
        break;
      case "tool-result":
        turn.result(this.#output(record(part.output)));
        break;
      case "tool-approval-response":
        if (text(part.reason) !== "") turn.result(text(part.reason));
        break;
      case "tool-approval-request":
        break;
      default:
        this.#unjudged("a part of a message of a type that is not known");
    }
  }

  #output(output: Fields): string {
    this.options(output.providerOptions);
    switch (output.type) {
      case "text":
      case "error-text":
        return text(output.value);
      case "json":
      case "error-json":
        return JSON.stringify(asJson(output.value, "a tool's results")) ?? "";
      case "execution-denied":
        return text(output.reason);
      case "content":
        return Array.isArray(output.value) ? output.value.map((part) => this.#outputPart(part)).join("") : "";
      default:
        this.#unjudged("a tool's result of a type that is not known");
        return "";
    }
  }

  #outputPart(part: Fields): string {
    this.options(part.providerOptions);
    if (part.type === "text") return text(part.text);
    if (part.type === "file") return this.#file(part, "a tool's file");
    if (FILES.includes(text(part.type))) rejectAttachment(`a tool's ${part.type}`, this.#policy.attachments);
    else this.#unjudged("a part of a tool's result of a type that is not known");
    return "";
  }

  /** A file's text, where it comes as text (`ai` 7). */
  #file(part: Fields, what: string): string {
    const data = record(part.data);
    if (data.type === "text") return [text(part.filename), text(data.text)].filter(Boolean).join("\n");
    rejectAttachment(`${what} (${mediaType(part)})`, this.#policy.attachments);
    return "";
  }

  #unjudged(what: string): void {
    if (this.#policy.unjudged === "pass") return;
    throw new InputError(
      "REQUEST_UNJUDGED",
      `The request holds ${what}, which the guard cannot judge. ` +
        'Leave it out, or let it pass with "unjudged": "pass" in the policy.',
    );
  }
}

const FILES = ["file-data", "file-url", "file-id", "image-data", "image-url", "image-file-id"];

/** A message of the prompt as one of the guard's, or several: what a provider's tools gave is a turn of its own. */
class Turn {
  content = "";
  reasoning = "";
  calls: object[] = [];
  readonly #role: string;
  readonly #messages: TextMessage[] = [];

  constructor(role: string) {
    this.#role = role;
  }

  result(content: string): void {
    if (this.#role !== "tool") this.#flush();
    this.#messages.push({ role: "tool", content });
  }

  end(): TextMessage[] {
    if (this.#messages.length === 0) this.#add();
    else this.#flush();
    return this.#messages;
  }

  #flush(): void {
    if (this.content !== "" || this.reasoning !== "" || this.calls.length > 0) this.#add();
  }

  #add(): void {
    if (this.#role === "tool") return;
    this.#messages.push({
      role: this.#role,
      content: this.content,
      ...(this.reasoning && { reasoning_content: this.reasoning }),
      ...(this.calls.length > 0 && { tool_calls: this.calls }),
    });
    this.content = "";
    this.reasoning = "";
    this.calls = [];
  }
}

function mediaType(part: Fields): string {
  return text(part.mediaType).slice(0, 64);
}

/** Where a text belongs; what else stands there may be one to the provider. */
function text(value: unknown): string {
  return typeof value === "string" ? value : textsIn(asJson(value, "texts")).join("\n");
}
