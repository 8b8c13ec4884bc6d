import "../package/package.js";
import type { LanguageModelMiddleware } from "ai";
import type { GuardError } from "../errors.js";
import { AnswerFormatter } from "../gate/answer-formatter.js";
import type { BatchOptions } from "../gate/batches.js";
import { Gate } from "../gate/gate.js";
import { checkMode, GATE_OPTIONS, type Mode, type Release } from "../gate/gate-options.js";
import type { Part } from "../gate/parts.js";
import { ModerationViolation } from "../gate/violation.js";
import { aScout, type ScoutChoice, scoutFor } from "../guard/scouting.js";
import type { Guard, StreamInput } from "../guard.js";
import { type Policy, type PolicyData, resolvePolicy } from "../moderation/policy.js";
import type { Finding } from "../moderation/ruling.js";
import { aFunction, anything, aText, checkOptions, type OptionCheck } from "../validation/options.js";
import { Call } from "./ai-sdk/call.js";
import { Collected, contentParts, streamParts } from "./ai-sdk/incoming.js";
import { metadata, Outgoing, withFailure } from "./ai-sdk/outgoing.js";
import { readPrompt } from "./ai-sdk/prompt.js";
import {
  type Block,
  type CallOptions,
  type Content,
  FILTERED,
  figures,
  type GenerateResult,
  type Model,
  NO_USAGE,
  type StreamPart,
  type StreamResult,
} from "./ai-sdk/types.js";

export interface MiddlewareOptions {
  /** Default: DEFAULT_POLICY. */
  policy?: PolicyData;
  /** Of streams; what is generated at once is always held back. "scout-first" needs a scout. Default "hold-back". */
  mode?: Mode;
  /** When text leaves that is held back. Default "settled". */
  release?: Release;
  /** Judges streams in batches. Default: each token at once; with a scout { tokens: 16, ms: 500 }. */
  batch?: BatchOptions;
  /** A small guard that reads streams ahead of the other; true: the embedded one. Default: none. */
  scout?: ScoutChoice;
  /** Asks the model for nothing before the prompt has passed. Default false: both at once. */
  promptFirst?: boolean;
  /** Conversations under one key share what was read, and its time tells so: give each tenant a middleware of its own. */
  cacheKey?: string;
  /** Called with what the policy says to observe. */
  onObserve?: (finding: Finding) => void;
  /** Called when a prompt or an answer is stopped. */
  onViolation?: (violation: ModerationViolation) => void;
  /**
   * Called once for a call in which the guard has failed and the policy (`failOpen`) lets the rest pass unjudged, with what
   * it failed of. Where it throws, the rest does not pass.
   */
  onFailure?: (error: GuardError) => void;
}

const { signal: _, ...OF_GATES } = GATE_OPTIONS;
const OPTIONS = {
  ...OF_GATES,
  policy: anything,
  cacheKey: aText,
  scout: aScout,
  onViolation: aFunction,
} satisfies Record<keyof MiddlewareOptions, OptionCheck>;

/**
 * Middleware for `wrapLanguageModel` of the AI SDK (`ai` 6 and 7): text and reasoning pass the guard, calls of tools as the
 * policy's `tools` says, sources and files pass as they are. Where the answer is JSON, its escapes are judged as the characters they stand for. What the
 * policy stops ends with the finish reason `content-filter`; the violation, without its text, is in the provider metadata
 * as `qwen3guard`. When the guard fails, the call does; where the policy lets the rest pass all the same (`failOpen`), the
 * metadata name the failure.
 *
 * @throws {InputError} POLICY_INVALID, OPTION_INVALID
 */
export function guardMiddleware(guard: Guard, options: MiddlewareOptions = {}): LanguageModelMiddleware {
  checkOptions(options, "guardMiddleware", OPTIONS);
  checkMode(options.mode, options.scout);
  const context = { guard, options, policy: resolvePolicy(options.policy, guard.labels) };
  return {
    specificationVersion: "v3",
    wrapStream: ({ model, params }) => streamed(context, model, params),
    wrapGenerate: ({ model, params }) => generated(context, model, params),
  };
}

interface Context {
  guard: Guard;
  options: MiddlewareOptions;
  policy: Policy;
}

async function streamed(context: Context, model: Model, params: CallOptions): Promise<StreamResult> {
  const { options, policy } = context;
  const call = new Call<StreamResult>();
  const { gate, formatter } = openGate<StreamPart | Block>(
    context,
    params,
    async (signal, formatter) => {
      const { stream } = await call.run(() => model.doStream({ ...params, abortSignal: signal }));
      return streamParts(stream, signal, formatter, { policy, onUsage: outgoing.onUsage });
    },
    { streams: true, onFailure: (error) => outgoing.onFailure(error) },
  );
  const outgoing = new Outgoing(formatter);
  gate.start();
  // The provider's refusal is thrown to the SDK, which may try again.
  const result = await call.resultUnless(gate.done).catch(async (error) => {
    await gate.return();
    throw error;
  });
  return { ...result, stream: outgoing.stream(gate, params.abortSignal, options.onViolation) };
}

async function generated(context: Context, model: Model, params: CallOptions): Promise<GenerateResult> {
  const { options, policy } = context;
  const call = new Call<GenerateResult>();
  let failure: GuardError | null = null;
  const onFailure = (error: GuardError) => {
    failure = error;
  };
  const { gate, formatter } = openGate<Content | Block>(
    context,
    params,
    async (signal, formatter) => {
      const answer = await call.run(() => model.doGenerate({ ...params, abortSignal: signal }));
      return contentParts(answer, formatter, policy);
    },
    { streams: false, onFailure },
  );
  gate.start();
  let violation: ModerationViolation | null = null;
  const passed = new Collected(formatter);
  try {
    for await (const part of gate) passed.take(part);
  } catch (error) {
    if (params.abortSignal?.aborted) throw params.abortSignal.reason;
    if (!(error instanceof ModerationViolation)) throw error;
    violation = error;
    options.onViolation?.(violation);
  }
  const result = await call.resultUnless(gate.done);
  if (violation) return stopped(result, passed.cut(policy.tools), violation);
  const complete = { ...(result as GenerateResult), content: passed.content };
  return failure ? withFailure(complete, failure) : complete;
}

/** A gate for a call of the provider, and how its answer is read. */
function openGate<T extends object>(
  { guard, options, policy }: Context,
  params: CallOptions,
  read: (signal: AbortSignal, formatter: AnswerFormatter<T>) => Promise<AsyncIterable<Part<T>>>,
  { streams, onFailure }: { streams: boolean; onFailure: (error: GuardError) => void },
): { gate: Gate<T>; formatter: AnswerFormatter<T> } {
  const { messages, prefill } = readPrompt(params, policy);
  const formatter = new AnswerFormatter<T>(prefill, { json: params.responseFormat?.type === "json" });
  const { mode, release, batch, scout, promptFirst, onObserve, cacheKey } = options;
  const { scope } = policy.prompt;
  const { abortSignal } = params;
  const input: StreamInput = {
    messages,
    reasoning: true,
    overflow: "slide",
    closely: true,
    scope,
    cacheKey,
  };
  const gate = new Gate<T>(
    (signal) => read(abortSignal ? AbortSignal.any([abortSignal, signal]) : signal, formatter),
    () => guard.stream(input),
    {
      policy,
      ...(streams && { mode, release, batch }),
      promptFirst,
      signal: abortSignal,
      onObserve,
      onFailure(error) {
        options.onFailure?.(error);
        onFailure(error);
      },
    },
    { scout: streams ? scoutFor(guard, scout, input) : null },
  );
  return { gate, formatter };
}

/** An answer that was stopped: what passed of it, and of what the provider tells of it only what cannot say it again. */
function stopped(
  result: GenerateResult | null,
  content: Content[],
  violation: ModerationViolation,
): GenerateResult {
  const { warnings = [], request, usage = NO_USAGE, response } = result ?? {};
  return {
    content,
    finishReason: FILTERED,
    usage: figures(usage),
    warnings,
    request,
    response: response && { ...response, body: undefined },
    providerMetadata: metadata(violation),
  };
}
