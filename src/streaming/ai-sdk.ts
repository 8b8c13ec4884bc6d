import type { LanguageModelMiddleware } from "ai";
import type { Guard } from "../guard.js";
import { type Policy, type PolicyData, resolvePolicy } from "../moderation/policy.js";
import type { Finding } from "../moderation/ruling.js";
import type { Message } from "../tokenizer/template.js";
import { Gate, type Mode } from "./gate.js";
import type { Part } from "./held.js";
import { attachment, conversation, Reply } from "./reply.js";
import { ModerationViolation } from "./violation.js";

export interface MiddlewareOptions {
  /** Default: DEFAULT_POLICY. */
  policy?: PolicyData;
  /** Of streams; what is generated at once is always held back. Default "hold-back". */
  mode?: Mode;
  /** Asks the model for nothing before the prompt has passed. Default false: both at once. */
  promptFirst?: boolean;
  /** Called with what the policy says to observe. */
  onObserve?: (finding: Finding) => void;
  /** Called when a prompt or an answer is stopped. */
  onViolation?: (violation: ModerationViolation) => void;
}

type GenerateOptions = Parameters<NonNullable<LanguageModelMiddleware["wrapGenerate"]>>[0];
type StreamOptions = Parameters<NonNullable<LanguageModelMiddleware["wrapStream"]>>[0];
type GenerateResult = Awaited<ReturnType<GenerateOptions["doGenerate"]>>;
type StreamResult = Awaited<ReturnType<StreamOptions["doStream"]>>;
type StreamPart = StreamResult["stream"] extends ReadableStream<infer P> ? P : never;
type CallOptions = StreamOptions["params"];
type Content = GenerateResult["content"][number];
type Usage = GenerateResult["usage"];

/** The block that a stretch of text belongs to. */
interface Block {
  channel: "content" | "reasoning";
  id: string;
}

/**
 * Middleware for `wrapLanguageModel` of the AI SDK (`ai` 6): text and reasoning pass the guard, tool calls and the rest
 * pass as they are. What the policy stops ends with the finish reason `content-filter`; the violation, without its
 * text, is in the provider metadata as `qwen3guard`. When the guard fails, the stream does.
 *
 * @throws {InputError} POLICY_INVALID
 */
export function guardMiddleware(guard: Guard, options: MiddlewareOptions = {}): LanguageModelMiddleware {
  const policy = resolvePolicy(options.policy, guard.labels);

  function open<T>(
    params: CallOptions,
    read: (signal: AbortSignal, lead: string) => Promise<AsyncIterable<Part<T>>>,
    mode: Mode | undefined,
  ): Gate<T> {
    const { messages, lead } = conversation(toMessages(params.prompt, policy));
    return new Gate<T>(
      (signal) => read(params.abortSignal ? AbortSignal.any([params.abortSignal, signal]) : signal, lead),
      () => guard.stream({ messages, reasoning: true, overflow: "slide", scope: policy.prompt.scope }),
      {
        policy,
        mode,
        promptFirst: options.promptFirst,
        signal: params.abortSignal,
        onObserve: options.onObserve,
      },
    );
  }

  return {
    specificationVersion: "v3",

    async wrapStream({ model, params }): Promise<StreamResult> {
      const call = new Call<StreamResult>();
      const state: StreamState = { usage: NO_USAGE, open: new Map() };
      const gate = open<StreamPart | Block>(
        params,
        async (signal, lead) => {
          const result = await call.run(() => model.doStream({ ...params, abortSignal: signal }));
          return streamParts(result.stream, signal, new Reply(lead), state);
        },
        options.mode,
      );
      gate.start();
      // The provider's refusal is thrown to the SDK, which may try again.
      const result = await call.resultUnless(gate.done).catch(async (error) => {
        await gate.return();
        throw error;
      });
      return { ...result, stream: outgoing(gate, state, params.abortSignal, options.onViolation) };
    },

    async wrapGenerate({ model, params }): Promise<GenerateResult> {
      const call = new Call<GenerateResult>();
      const gate = open<Content | Block>(
        params,
        async (signal, lead) => {
          const result = await call.run(() => model.doGenerate({ ...params, abortSignal: signal }));
          return contentParts(result.content, new Reply(lead));
        },
        "hold-back",
      );
      gate.start();
      let violation: ModerationViolation | null = null;
      const passed: Content[] = [];
      try {
        for await (const part of gate) collect(passed, part);
      } catch (error) {
        if (params.abortSignal?.aborted) throw params.abortSignal.reason;
        if (!(error instanceof ModerationViolation)) throw error;
        violation = error;
        options.onViolation?.(violation);
      }
      const result = await call.resultUnless(gate.done);
      if (!violation) return { ...(result as GenerateResult), content: passed };
      return {
        usage: NO_USAGE,
        warnings: [],
        ...result,
        content: passed.filter((item) => !("text" in item) || item.text !== ""),
        finishReason: FILTERED,
        // The body and the provider's metadata, log probabilities for one, say again what was stopped.
        response: result?.response && { ...result.response, body: undefined },
        providerMetadata: metadata(violation),
      };
    },
  };
}

/** A call of the provider, made within a gate and awaited outside. */
class Call<R> {
  readonly #result: Promise<R>;
  #resolve!: (result: R) => void;
  #reject!: (error: unknown) => void;

  constructor() {
    this.#result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The gate has the same error.
    this.#result.catch(() => {});
  }

  async run(make: () => PromiseLike<R>): Promise<R> {
    try {
      const result = await make();
      this.#resolve(result);
      return result;
    } catch (error) {
      this.#reject(error);
      throw error;
    }
  }

  /** The provider's result; null where the gate was over before there was one. */
  resultUnless(done: Promise<unknown>): Promise<R | null> {
    return Promise.race([this.#result, done.then(() => null)]);
  }
}

interface StreamState {
  usage: Usage;
  /** Blocks begun and not ended, as the reader knows them. */
  open: Map<string, Block>;
}

function streamParts(
  stream: ReadableStream<StreamPart>,
  signal: AbortSignal,
  reply: Reply<StreamPart | Block>,
  state: StreamState,
): AsyncGenerator<Part<StreamPart | Block>> {
  const reader = stream.getReader();
  // A model that does not heed the signal is left all the same, also where nobody reads a part of it.
  const leave = () => void reader.cancel(signal.reason).catch(() => {});
  if (signal.aborted) leave();
  signal.addEventListener("abort", leave, { once: true });
  return readParts(reader, reply, state);
}

async function* readParts(
  reader: ReadableStreamDefaultReader<StreamPart>,
  reply: Reply<StreamPart | Block>,
  state: StreamState,
): AsyncGenerator<Part<StreamPart | Block>> {
  const blocks = new Map<string, Block>();
  const blockOf = (channel: Block["channel"], id: string): Block => {
    const key = `${channel} ${id}`;
    const block = blocks.get(key) ?? { channel, id };
    blocks.set(key, block);
    return block;
  };
  for (;;) {
    const { done, value: part } = await reader.read();
    if (done) return;
    if (part.type === "text-delta" || part.type === "reasoning-delta") {
      const channel = part.type === "text-delta" ? "content" : "reasoning";
      yield* reply.text(channel, part.delta, blockOf(channel, part.id));
      // A signature, for example; the text went its own way.
      if (part.providerMetadata) yield { kind: "item", item: { ...part, delta: "" } };
    } else if (part.type !== "raw") {
      // A raw part repeats text that is not judged yet.
      if (part.type === "finish") state.usage = part.usage;
      yield { kind: "item", item: part, boundary: !part.type.endsWith("-start") };
    }
  }
}

async function* contentParts(
  content: readonly Content[],
  reply: Reply<Content | Block>,
): AsyncGenerator<Part<Content | Block>> {
  for (const item of content) {
    if (item.type === "text" || item.type === "reasoning") {
      yield { kind: "item", item: { ...item, text: "" }, boundary: true };
      const channel = item.type === "text" ? "content" : "reasoning";
      yield* reply.text(channel, item.text, { channel, id: "" });
    } else {
      yield { kind: "item", item, boundary: true };
    }
  }
}

/** Puts generated content together again: an item of text comes empty, and its text after it. */
function collect(content: Content[], part: Part<Content | Block>): void {
  if (part.kind === "item") content.push(part.item as Content);
  const last = content.at(-1);
  if (part.kind === "text" && last && "text" in last) last.text += part.text;
}

function outgoing(
  gate: Gate<StreamPart | Block>,
  state: StreamState,
  signal: AbortSignal | undefined,
  onViolation: MiddlewareOptions["onViolation"],
): ReadableStream<StreamPart> {
  return new ReadableStream<StreamPart>(
    {
      async pull(controller) {
        try {
          const { done, value } = await gate.next();
          if (done) controller.close();
          else controller.enqueue(toStreamPart(value, state));
        } catch (error) {
          if (signal?.aborted) {
            controller.error(signal.reason);
            return;
          }
          for (const { channel, id } of state.open.values()) {
            controller.enqueue({ type: channel === "content" ? "text-end" : "reasoning-end", id });
          }
          if (error instanceof ModerationViolation) {
            onViolation?.(error);
            controller.enqueue({
              type: "finish",
              finishReason: FILTERED,
              usage: state.usage,
              providerMetadata: metadata(error),
            });
          } else {
            controller.enqueue({ type: "error", error });
            const finishReason = { unified: "error" as const, raw: undefined };
            controller.enqueue({ type: "finish", finishReason, usage: state.usage });
          }
          controller.close();
        }
      },
      async cancel() {
        await gate.return();
      },
    },
    { highWaterMark: 0 },
  );
}

function toStreamPart(part: Part<StreamPart | Block>, state: StreamState): StreamPart {
  if (part.kind === "text") {
    const { channel, id } = part.tag as Block;
    return { type: channel === "content" ? "text-delta" : "reasoning-delta", id, delta: part.text };
  }
  const item = (part.kind === "item" ? part.item : part) as StreamPart;
  if (item.type === "text-start") state.open.set(`content ${item.id}`, { channel: "content", id: item.id });
  if (item.type === "reasoning-start")
    state.open.set(`reasoning ${item.id}`, { channel: "reasoning", id: item.id });
  if (item.type === "text-end") state.open.delete(`content ${item.id}`);
  if (item.type === "reasoning-end") state.open.delete(`reasoning ${item.id}`);
  return item;
}

function toMessages(prompt: CallOptions["prompt"], policy: Policy): Message[] {
  return prompt.flatMap((message): Message[] => {
    if (message.role === "system") return [{ role: "system", content: message.content }];
    if (message.role === "tool") {
      return message.content.flatMap((part) =>
        part.type === "tool-result" ? [{ role: "tool", content: outputText(part.output, policy) }] : [],
      );
    }
    let content = "";
    let reasoning = "";
    const calls: object[] = [];
    for (const part of message.content) {
      if (part.type === "text") content += part.text;
      else if (part.type === "reasoning") reasoning += part.text;
      else if (part.type === "file") attachment(`a file (${part.mediaType})`, policy);
      else if (part.type === "tool-call") {
        calls.push({ type: "function", function: { name: part.toolName, arguments: part.input } });
      }
    }
    return [
      {
        role: message.role,
        content,
        ...(reasoning && { reasoning_content: reasoning }),
        ...(calls.length > 0 && { tool_calls: calls }),
      },
    ];
  });
}

type ToolMessage = Extract<CallOptions["prompt"][number], { role: "tool" }>;
type ToolOutput = Extract<ToolMessage["content"][number], { type: "tool-result" }>["output"];

function outputText(output: ToolOutput, policy: Policy): string {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "content":
      return output.value
        .map((part) => {
          if (part.type === "text") return part.text;
          attachment(`a tool's ${part.type}`, policy);
          return "";
        })
        .join("");
    case "execution-denied":
      return output.reason ?? "";
    default:
      return JSON.stringify(output.value);
  }
}

function metadata(violation: ModerationViolation): NonNullable<GenerateResult["providerMetadata"]> {
  return { qwen3guard: { violation: JSON.parse(JSON.stringify(violation)) } };
}

const FILTERED = { unified: "content-filter" as const, raw: undefined };

/** Of a call that was stopped before the provider told. */
const NO_USAGE: Usage = {
  inputTokens: { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined },
  outputTokens: { total: undefined, text: undefined, reasoning: undefined },
};
