import { Engine } from "./engine/engine.js";
import { type Ahead, ReadAhead } from "./engine/read-ahead.js";
import type { RecordingReport } from "./engine/recording.js";
import type { Sequence } from "./engine/sequence.js";
import { ClosedError, ModelError } from "./errors.js";
import { requireKind } from "./export/heads.js";
import type { Chunk, Typed } from "./gate/chunks.js";
import { ModeratedStream } from "./gate/moderate.js";
import type { Source } from "./gate/source.js";
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
} from "./guard-options.js";
import type { GuardConfig } from "./model/config.js";
import type { Manifest } from "./model/manifest.js";
import { readManifest } from "./model/read-manifest.js";
import {
  type Classification,
  type ClassifyInput,
  classifyPrompt,
  classifyResponse,
  splitAnswer,
} from "./moderation/classification.js";
import { type Policy, type PromptScope, resolvePolicy } from "./moderation/policy.js";
import { longestConversation, type WindowSizes, windowSizes } from "./moderation/prompt-windows.js";
import { rulePrompt } from "./moderation/ruling.js";
import { SlotWatch } from "./moderation/slot-watch.js";
import { GuardStream } from "./moderation/stream.js";
import type { StreamOptions } from "./moderation/stream-options.js";
import { aText, checkOptions } from "./options.js";
import { Prompt } from "./prompt.js";
import { resolveModel } from "./resolve-model.js";
import { deviceName } from "./runtime/devices/device-id.js";
import { scoutFor } from "./scouting.js";
import {
  ChatTemplate,
  type Prefix,
  type PrefixLimits,
  type PrefixOptions,
  prefixOf,
} from "./tokenizer/chat-template/template.js";
import { checkAnswer, promptTooLong, textBytes } from "./tokenizer/limits.js";
import { Tokenizer } from "./tokenizer/tokenizer.js";

export type { LoadOptions, ModerateOptions, PromptInput, StreamInput } from "./guard-options.js";

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
  readonly #ahead: ReadAhead | null;
  readonly #streams: SlotWatch<GuardStream>;
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
    }: Pick<LoadOptions, "idleMs" | "readAhead" | "maxWindows"> = {},
  ) {
    this.modelDir = modelDir;
    this.tokenizer = tokenizer;
    this.template = template;
    this.#engine = engine;
    this.#idleMs = idleMs;
    this.#windows = windowSizes(engine.maxTokens, maxWindows);
    this.#ahead = readAhead ? new ReadAhead(engine) : null;
    this.#streams = new SlotWatch(idleMs !== undefined);
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
    return this.#windows ? longestConversation(this.#windows) : this.maxTokens - 1;
  }

  /**
   * Streams that hold a slot, and streams that wait for one; tokens of prompts so far that were in the cache already
   * (`reusedTokens`), and that ran (`prefilledTokens`).
   */
  get load(): { active: number; waiting: number; reusedTokens: number; prefilledTokens: number } {
    return this.#engine.load;
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
    return this.#stream(input, true);
  }

  /** @param goesOn whether the conversation may have a next turn */
  #stream(input: StreamInput, goesOn: boolean, more: Pick<StreamOptions, "mostSlides"> = {}): GuardStream {
    checkOptions(input, "guard.stream", STREAM_OPTIONS);
    requireConversation(input);
    const policy = input.policy && resolvePolicy(input.policy, this.labels);
    const prefix = this.#prefix(input, policy);
    // Known before anything has run. Messages always have a turn.
    if (policy && !(prefix instanceof Promise) && prefix.turns.length === 0) rulePrompt(null, policy);
    const goingOn = goesOn ? this.#goingOn(input, policy) : null;
    return this.#open(input, prefix, { ...more, policy, scope: scopeOf(input, policy) }, goingOn);
  }

  /**
   * Templates and encodes a conversation once for several streams, such as the choices of one request. What is sure to be
   * too long is refused at once; a long conversation is encoded in slices, between which the event loop goes on, and what
   * is wrong with it then is said by its streams.
   *
   * @param input `overflow` as for its streams: "slide" lets it be longer than the context
   * @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE, POLICY_INVALID, OPTION_INVALID, MARKS_TOO_MANY
   * @throws {ContextLengthError} PROMPT_TOO_LONG
   */
  prompt(input: PromptInput & Pick<StreamInput, "overflow" | "policy">): Prompt {
    checkOptions(input, "guard.prompt", PROMPT_OPTIONS);
    const policy = input.policy && resolvePolicy(input.policy, this.labels);
    return new Prompt(
      this.#template(input, policy),
      this.#goingOn(input, policy),
      input.scope ?? policy?.prompt.scope,
    );
  }

  #open(
    input: StreamInput,
    prefix: Prefix | Promise<Prefix>,
    options: Pick<StreamOptions, "policy" | "scope" | "mostSlides">,
    goingOn: Prompt["goingOn"],
  ): GuardStream {
    const { cacheKey = "" } = input;
    const stream = new GuardStream(this.#engine.open(cacheKey), this.tokenizer, this.labels, prefix, {
      ...options,
      signal: input.signal,
      overflow: input.overflow,
      windows: this.#windows,
      spare: () => this.#spare(cacheKey),
      idleMs: this.#idleMs,
      restarts: input.restarts,
      onClear: goingOn ? (answer) => this.#ahead?.add(cacheKey, () => goingOn(answer)) : undefined,
    });
    this.#streams.add(stream);
    return stream;
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
    const {
      mode,
      release,
      batch,
      promptFirst,
      onObserve,
      onFailure,
      onEvent,
      replacement,
      signal,
      reasoning,
      buffer,
      attempts,
      intervention,
    } = options;
    const policy = resolvePolicy(options.policy, this.labels);
    const own = { overflow: options.overflow ?? "slide", restarts: mode === "regenerate", signal: undefined };
    const input = { ...options, ...own } as StreamInput;
    const scout = scoutFor(this, options.scout, input);
    // It rules on its own.
    const open = () =>
      this.#open(
        input,
        this.#prefix(input, policy),
        { scope: scopeOf(input, policy) },
        this.#goingOn(input, policy),
      );
    const gate = {
      policy,
      mode,
      release,
      batch,
      promptFirst,
      onObserve,
      onFailure,
      onEvent,
      reasoning,
      replacement,
      signal,
      buffer,
      attempts,
      intervention,
    };
    return new ModeratedStream<C>(source, open, gate, scout) as ModeratedStream<Typed<C>>;
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
    const { messages, tools, signal, cacheKey } = input ?? {};
    const policy = input?.policy && resolvePolicy(input.policy, this.labels);
    const { before, answer, reasoning } = splitAnswer(messages);
    if (answer !== null) checkAnswer(answer, this);
    const stream = this.#stream(
      { messages: before, tools, reasoning, signal, cacheKey, overflow: "slide", scope: "turn" },
      false,
      { mostSlides: (this.#windows?.most ?? 1) - 1 },
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

  /** A slot that nobody waits for. */
  #spare(cacheKey: string): Sequence | null {
    const { active, waiting } = this.load;
    return waiting === 0 && active < this.maxStreams ? this.#engine.open(cacheKey) : null;
  }

  /** Closes every stream and frees the model. Idempotent. */
  close(): Promise<void> {
    const reason = new ClosedError("GUARD_CLOSED", "The guard was closed. Load it again to go on.");
    // The engine knows sequences alone: what else a stream holds on to, its signal for one, it lets go of itself.
    for (const stream of this.#streams) stream.close(reason);
    this.#ahead?.close();
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

  #prefix(input: StreamInput, policy: Policy | undefined): Prefix | Promise<Prefix> {
    if (input.messages) return this.#template(input, policy);
    if (input.prompt) return input.prompt.prefix;
    const ids = input.promptIds as readonly number[];
    const { most } = this.#limits(input, policy);
    if (ids.length >= most) throw promptTooLong(ids.length, most, most > this.maxTokens);
    for (const id of ids) this.tokenizer.tokenBytes(id);
    return prefixOf([...ids], this.tokenizer);
  }

  #template(
    input: PromptInput & Pick<StreamInput, "overflow">,
    policy: Policy | undefined,
  ): Prefix | Promise<Prefix> {
    return this.template.prefixWithin(
      this.#limits(input, policy),
      input.messages,
      templateOptions(input, policy),
    );
  }

  #limits(input: Partial<Pick<StreamInput, "overflow" | "scope">>, policy: Policy | undefined): PrefixLimits {
    const { maxTokens: context, tokenizer } = this;
    if (input.overflow !== "slide" || !this.#windows) {
      return { most: context, context, bytes: context * tokenizer.longest };
    }
    const bytes = textBytes(this);
    const counting = this.maxPromptTokens + 1;
    // Earlier turns that do not count are encoded, but not judged.
    const most = scopeOf(input, policy) === "turn" ? Math.max(counting, bytes / BYTES_OF_FEWEST) : counting;
    return { most: Math.ceil(most), context, bytes };
  }

  /** How the conversation's next turn will begin; null where nobody asks, or it is not known. */
  #goingOn(input: Partial<StreamInput>, policy: Policy | undefined): Prompt["goingOn"] {
    const { messages, prompt } = input;
    if (!this.#ahead) return null;
    if (!messages) return prompt?.goingOn ?? null;
    const options = templateOptions(input, policy);
    let asked = false;
    return async (answer): Promise<Ahead | null> => {
      // Of several answers to one prompt, the conversation goes on with one.
      if (asked) return null;
      asked = true;
      const { ids, turns } = await this.template.goingOn(this.maxTokens, messages, answer, options);
      return { ids, reads: turns.map(({ end }) => end) };
    };
  }
}

/** Of a usual token, so that a conversation with as many bytes as are read seldom has more. */
const BYTES_OF_FEWEST = 4;

function scopeOf(
  { scope, prompt }: Partial<Pick<StreamInput, "scope" | "prompt">>,
  policy: Policy | undefined,
): PromptScope | undefined {
  return scope ?? prompt?.scope ?? policy?.prompt.scope;
}

function templateOptions(
  { reasoning, tools, scope }: Partial<PromptInput>,
  policy: Policy | undefined,
): PrefixOptions {
  return {
    reasoning,
    tools,
    keepReasoning: (scope ?? policy?.prompt.scope) === "conversation",
    attachments: policy?.attachments,
  };
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
  // ONNX Runtime loads on a thread of its own, while this one reads the tokenizer.
  const loading = Engine.load(modelDir, options);
  loading.catch(() => {});
  const [tokenizer, template] = await loadTexts(modelDir).catch(async (error) => {
    // That a file is not the exported one says more than what is wrong in it.
    await (await loading).close();
    throw error;
  });
  const engine = await loading;
  const { vocabSize } = engine.manifest.config;
  if (tokenizer.vocabSize > vocabSize) {
    await engine.close();
    throw new ModelError(
      "TOKENIZER_MISMATCH",
      `The tokenizer in ${modelDir} has ${tokenizer.vocabSize} ids, and the model ${vocabSize}. ` +
        "Export again from a checkpoint whose tokenizer belongs to it.",
    );
  }
  return new Guard(modelDir, engine, tokenizer, template, options);
}

async function loadTexts(modelDir: string): Promise<[Tokenizer, ChatTemplate]> {
  const tokenizer = await Tokenizer.load(modelDir);
  return [tokenizer, await ChatTemplate.load(modelDir, tokenizer)];
}
