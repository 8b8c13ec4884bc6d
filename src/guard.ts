import type { Engine } from "./engine/engine.js";
import type { RecordingReport } from "./engine/recording.js";
import { ClosedError } from "./errors.js";
import type { Chunk, Typed } from "./gate/chunks.js";
import { ModeratedStream } from "./gate/moderate.js";
import type { Source } from "./gate/source.js";
import { Conversations } from "./guard/conversations.js";
import { loadModel } from "./guard/load-model.js";
import {
  CLASSIFY_OPTIONS,
  LOAD_OPTIONS,
  type LoadOptions,
  MODERATE_OPTIONS,
  type ModerateOptions,
  PROMPT_OPTIONS,
  type PromptInput,
  requireConversation,
  STREAM_OPTIONS,
  type StreamInput,
  USUAL_WINDOWS,
} from "./guard/options.js";
import { Prompt } from "./guard/prompt.js";
import { scoutFor } from "./guard/scouting.js";
import { GuardStreams } from "./guard/streams.js";
import type { GuardConfig } from "./model/config.js";
import { requireKind } from "./model/guard-outputs.js";
import type { Manifest } from "./model/manifest.js";
import { readManifest } from "./model/read-manifest.js";
import {
  type Classification,
  type ClassifyInput,
  classifyPrompt,
  classifyResponse,
  splitAnswer,
} from "./moderation/classification.js";
import { resolvePolicy } from "./moderation/policy.js";
import { spanOf, type WindowSizes, windowSizes } from "./moderation/prompt-windows.js";
import type { GuardStream } from "./moderation/stream.js";
import { WindowMemory } from "./moderation/window-memory.js";
import { resolveModel } from "./resolve-model.js";
import { deviceName } from "./runtime/devices/device-id.js";
import { EncodedTexts } from "./tokenizer/chat-template/encoded-texts.js";
import { ChatTemplate } from "./tokenizer/chat-template/template.js";
import { checkAnswer } from "./tokenizer/limits.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";
import { aText, checkOptions } from "./validation/options.js";

export type { LoadOptions, ModerateOptions, PromptInput, StreamInput } from "./guard/options.js";

/** A loaded guard model. Streams are independent of each other and share its steps. */
export class Guard {
  /** The folder the model was loaded from. */
  readonly modelDir: string;
  /** The model's own, for those who push ids. */
  readonly tokenizer: Tokenizer;
  /** The checkpoint's chat template. */
  readonly template: ChatTemplate;
  readonly #engine: Engine;
  readonly #idleMs: number | undefined;
  readonly #windows: WindowSizes | null;
  readonly #conversations: Conversations;
  readonly #streams: GuardStreams;
  #scout: Promise<Guard> | null = null;

  constructor(
    modelDir: string,
    engine: Engine,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    {
      idleMs,
      readAhead = false,
      maxWindows = USUAL_WINDOWS,
      prefixCache = {},
      span,
    }: Pick<LoadOptions, "idleMs" | "readAhead" | "maxWindows" | "prefixCache" | "span"> = {},
  ) {
    this.modelDir = modelDir;
    this.tokenizer = tokenizer;
    this.template = template;
    this.#engine = engine;
    this.#idleMs = idleMs;
    this.#windows = windowSizes(engine.maxTokens, maxWindows);
    const memory = prefixCache && prefixCache.maxTokens !== 0 ? new WindowMemory() : null;
    const texts = prefixCache === false ? null : new EncodedTexts();
    this.#conversations = new Conversations(template, tokenizer, engine.maxTokens, this.#windows, texts);
    const ways = {
      windows: this.#windows,
      span: span ?? spanOf(engine.manifest.config),
      // Nobody has measured behind how much this one's verdicts on answers hold: they are those of the official protocol.
      answerToo: span !== undefined,
      ...{ memory, readAhead, idleMs },
    };
    this.#streams = new GuardStreams(engine, this.#conversations, ways);
  }

  /** guard.json: configuration, labels, dtype, sources. */
  get manifest(): Manifest {
    return this.#engine.manifest;
  }

  /** Names of risks and categories, in the order of the probabilities of verdicts. */
  get labels(): GuardConfig["labels"] {
    return this.#engine.manifest.config.labels;
  }

  /** Where it runs: "cpu" or "cuda:0". */
  get device(): string {
    return deviceName(this.#engine.deviceId);
  }

  /** How steps are recorded on a GPU (CUDA graphs), and what came of it; null on the CPU. */
  get recording(): RecordingReport | null {
    return this.#engine.recording;
  }

  /** Streams judged at once; more wait in order. */
  get maxStreams(): number {
    return this.#engine.maxStreams;
  }

  /** Tokens that a stream holds at once, prefix and response. */
  get maxTokens(): number {
    return this.#engine.maxTokens;
  }

  /** Tokens of a conversation that are judged at most, in windows where `overflow` is "slide". */
  get maxPromptTokens(): number {
    return this.#conversations.maxPromptTokens;
  }

  /**
   * Streams that hold a slot, and streams that wait for one; tokens of prompts so far that were in the cache already
   * (`reusedTokens`), and that ran (`prefilledTokens`).
   */
  get load(): { active: number; waiting: number; reusedTokens: number; prefilledTokens: number } {
    const load = this.#engine.load;
    return { ...load, reusedTokens: load.reusedTokens + this.#streams.recalledTokens };
  }

  /**
   * Starts to judge a conversation. Returns at once: the prompt is prefilled beside the event loop, pushes queue
   * behind it. A prompt of many thousand characters is encoded first, in slices: what only that can find (MARKS_TOO_MANY,
   * or PROMPT_TOO_LONG where its length did not tell) then rejects `stream.prompt` and all pushes.
   *
   * @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE, PROMPT_EMPTY, PROMPT_UNJUDGED, TOKEN_INVALID,
   *   POLICY_INVALID, OPTION_INVALID, MARKS_TOO_MANY
   * @throws {ContextLengthError} PROMPT_TOO_LONG
   * @throws {QueueFullError} QUEUE_FULL
   * @throws {ClosedError} GUARD_CLOSED
   */
  stream(input: StreamInput): GuardStream {
    checkOptions(input, "guard.stream", STREAM_OPTIONS);
    requireConversation(input);
    const policy = input.policy && resolvePolicy(input.policy, this.labels);
    return this.#streams.open(input, policy);
  }

  /**
   * Templates and encodes a conversation once for several streams, such as the choices of one request. What is sure to be
   * too long is refused at once; a long conversation is encoded in slices, between which the event loop goes on, and what
   * is wrong with it then is said by its streams.
   *
   * @param input `overflow` and `closely` as for its streams: "slide" lets it be longer than the context. `cacheKey` as for
   *   its streams; left out, no text of another conversation's is used that was encoded before
   * @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE, POLICY_INVALID, OPTION_INVALID, MARKS_TOO_MANY
   * @throws {ContextLengthError} PROMPT_TOO_LONG
   */
  prompt(input: PromptInput & Pick<StreamInput, "overflow" | "policy" | "cacheKey" | "closely">): Prompt {
    checkOptions(input, "guard.prompt", PROMPT_OPTIONS);
    const policy = input.policy && resolvePolicy(input.policy, this.labels);
    return new Prompt(
      this.#conversations.templated(input, policy),
      this.#streams.goingOn(input, policy),
      input.scope ?? policy?.prompt.scope,
    );
  }

  /**
   * Puts the guard between a stream and its reader: what comes out is what the policy lets pass. Nothing does before
   * the prompt has passed. Starts when it is first read.
   *
   * @param source what the model says: text, bytes, ids, or the stream of a model's client (`openai`, `@anthropic-ai/sdk`,
   *   `ollama`, LangChain, the AI SDK) or a promise of one; or a function that asks the model: given a signal, it is told
   *   when to stop
   * @returns the source's text (ids for ids), in slices of it; ends with a ModerationViolation where it is stopped, with
   *   CHUNK_INVALID or CHUNK_NOT_TEXT where the source gives what is not taken
   * @throws {InputError} PROMPT_EMPTY, POLICY_INVALID, OPTION_INVALID
   */
  moderate<C extends Chunk>(source: Source<C>, options: ModerateOptions<C>): ModeratedStream<Typed<C>> {
    checkOptions(options, "guard.moderate", MODERATE_OPTIONS);
    requireConversation(options);
    const policy = resolvePolicy(options.policy, this.labels);
    const own = {
      overflow: options.overflow ?? "slide",
      closely: options.closely ?? true,
      restarts: options.mode === "regenerate",
      signal: undefined,
    };
    const input = { ...options, ...own } as StreamInput;
    const scout = scoutFor(this, options.scout, input);
    // It rules on its own.
    const open = () => this.#streams.open(input, policy, { rules: false });
    return new ModeratedStream<C>(source, open, { ...options, policy }, scout) as ModeratedStream<Typed<C>>;
  }

  /**
   * Judges a finished conversation at once: its answer where the last message is the assistant's, else its prompt. What is
   * longer than the context is judged in windows.
   *
   * @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE, PROMPT_UNJUDGED, EMPTY_RESPONSE
   * @throws {ContextLengthError} PROMPT_TOO_LONG, CONTEXT_EXCEEDED for an answer: it takes more than `maxWindows`
   * @throws as `stream`, and what made the stream fail
   */
  async classify(input: ClassifyInput): Promise<Classification> {
    checkOptions(input, "guard.classify", CLASSIFY_OPTIONS);
    const { messages, tools, signal, cacheKey, closely } = input ?? {};
    const policy = input?.policy && resolvePolicy(input.policy, this.labels);
    const { before, answer, reasoning } = splitAnswer(messages, policy);
    requireConversation({ messages: before });
    if (answer !== null) checkAnswer(answer, this);
    const stream = this.#streams.open(
      { messages: before, tools, reasoning, signal, cacheKey, closely, overflow: "slide", scope: "turn" },
      undefined,
      { goesOn: false, mostSlides: (this.#windows?.most ?? 1) - 1 },
    );
    try {
      if (answer === null) return await classifyPrompt(stream, policy);
      return await classifyResponse(stream, answer, this.labels.responseRisk, policy);
    } finally {
      stream.close();
    }
  }

  /** The embedded guard, to read ahead of this one: loaded when it is first asked for, and closed along with this one. */
  scout(): Promise<Guard> {
    this.#scout ??= loadGuard({ maxStreams: this.maxStreams, idleMs: this.#idleMs });
    return this.#scout;
  }

  /** Closes every stream and frees the model. Idempotent. */
  close(): Promise<void> {
    const reason = new ClosedError("GUARD_CLOSED", "The guard was closed. Load it again to go on.");
    this.#streams.close(reason);
    const scout = this.#scout?.then(
      (guard) => guard.close(),
      () => {},
    );
    return Promise.all([this.#engine.close(), scout]).then(() => {});
  }

  /** `await using guard = await loadGuard()` closes it. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Loads a guard.
 *
 * @param model nothing for the embedded default; or an exported model directory, a checkpoint directory, or a hub id
 *   such as "Qwen/Qwen3Guard-Stream-0.6B". Checkpoints are exported on first use into a cache, keyed by content.
 * @throws {InputError} MODEL_UNKNOWN, UNKNOWN_DTYPE, UNKNOWN_DEVICE, DEVICE_MISMATCH, OPTION_INVALID
 * @throws {CheckpointError} a checkpoint that cannot be used
 * @throws {ModelError} a model directory that cannot be used
 * @throws {DeviceError} CUDA_UNAVAILABLE, CUDA_ERROR, ORT_NOT_FOUND, OUT_OF_MEMORY
 * @throws {StorageError} no network, no space
 */
export async function loadGuard(options?: LoadOptions & { model?: string }): Promise<Guard>;
export async function loadGuard(model?: string, options?: LoadOptions): Promise<Guard>;
export async function loadGuard(
  named?: string | (LoadOptions & { model?: string }),
  given: LoadOptions = {},
): Promise<Guard> {
  const { model, ...options } =
    typeof named === "object" && named !== null ? named : { ...given, model: named };
  checkOptions({ model }, "loadGuard", { model: aText });
  checkOptions(options, "loadGuard", LOAD_OPTIONS);
  const modelDir = await resolveModel(model, options);
  requireKind(await readManifest(modelDir), modelDir, "stream");
  const { engine, tokenizer, template } = await loadModel(modelDir, options, ChatTemplate.load);
  const measured = model === undefined ? { span: spanOf(engine.manifest.config) } : {};
  return new Guard(modelDir, engine, tokenizer, template, { ...measured, ...options });
}
