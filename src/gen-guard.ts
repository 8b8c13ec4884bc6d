import type { Engine } from "./engine/engine.js";
import type { Sequence } from "./engine/sequence.js";
import { ClosedError, InputError, ModelError } from "./errors.js";
import { loadModel } from "./guard/load-model.js";
import { CLASSIFY_OPTIONS, LOAD_OPTIONS, type LoadOptions } from "./guard/options.js";
import type { GuardConfig } from "./model/config.js";
import { requireKind } from "./model/guard-outputs.js";
import type { Manifest } from "./model/manifest.js";
import { readManifest } from "./model/read-manifest.js";
import type { Classification, ClassifyInput } from "./moderation/classification.js";
import { AnswerForms } from "./moderation/gen/answer-forms.js";
import { AnswerReader, likeliest, logProbabilities } from "./moderation/gen/answer-reader.js";
import { judgeByWords } from "./moderation/gen/judge.js";
import { resolvePolicy } from "./moderation/policy.js";
import { resolveModel } from "./resolve-model.js";
import { deviceName } from "./runtime/devices/device-id.js";
import { type GenPrompt, GenTemplate } from "./tokenizer/chat-template/gen-template.js";
import { TURN_END } from "./tokenizer/chat-template/turns.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";
import { aText, checkOptions, wholeFrom } from "./validation/options.js";

/** A token of an answer, and what else the model might have said in its place. */
export interface TokenLogprob {
  id: number;
  /** Natural logarithm of its probability among the whole vocabulary. */
  logprob: number;
  /** The likeliest tokens at its place, the likeliest first. */
  top: { id: number; logprob: number }[];
}

export type GenerateInput = Pick<ClassifyInput, "messages" | "signal" | "cacheKey"> & {
  /** Default 128, as in the official evaluation. */
  maxTokens?: number;
};

/**
 * Tokens that a classification may take unless `maxTokens` says otherwise: the model's context is 32,768, of which a slot of
 * the cache takes gigabytes.
 */
const USUAL_TOKENS = 8192;
const USUAL_GENERATED = 128;
const MOST_ALTERNATIVES = 20;
/** Tokens that end an answer, as the released generation_config.json has them. */
const ENDS = [TURN_END, "<|endoftext|>"];

/** A loaded Qwen3Guard-Gen: it judges finished prompts and answers. Classifications share its steps, and its instructions. */
export class GenGuard {
  /** The folder the model was loaded from. */
  readonly modelDir: string;
  readonly tokenizer: Tokenizer;
  /** The checkpoint's chat template, with the instructions in it. */
  readonly template: GenTemplate;
  readonly #engine: Engine;
  readonly #forms: AnswerForms;

  constructor(modelDir: string, engine: Engine, tokenizer: Tokenizer, template: GenTemplate) {
    this.modelDir = modelDir;
    this.tokenizer = tokenizer;
    this.template = template;
    this.#engine = engine;
    this.#forms = new AnswerForms(tokenizer, template.labels);
    for (const ids of template.instructions) engine.publish(ids);
  }

  /** guard.json: configuration, labels, dtype, sources. */
  get manifest(): Manifest {
    return this.#engine.manifest;
  }

  /** Names of risks and categories, in the order of the probabilities. */
  get labels(): GuardConfig["labels"] {
    return this.#engine.manifest.config.labels;
  }

  /** Where it runs: "cpu" or "cuda:0". */
  get device(): string {
    return deviceName(this.#engine.deviceId);
  }

  /** Conversations judged at once; more wait in order. */
  get maxStreams(): number {
    return this.#engine.maxStreams;
  }

  /** Tokens that instructions, conversation and answer may take together. */
  get maxTokens(): number {
    return this.#engine.maxTokens;
  }

  /** How many of them the answer may take. */
  get answerTokens(): number {
    return this.#forms.longest;
  }

  /** Conversations that are being judged and that wait; tokens that the cache held already, and that ran. */
  get load(): { active: number; waiting: number; reusedTokens: number; prefilledTokens: number } {
    return this.#engine.load;
  }

  /**
   * Judges a finished conversation: its answer where the last message is the assistant's, else its prompt. The verdict is
   * what greedy decoding would write, read without writing it.
   *
   * @throws {InputError} MESSAGES_INVALID (among others: a message that the template would not show), ATTACHMENT_UNREADABLE,
   *   MARKS_TOO_MANY, POLICY_INVALID, OPTION_INVALID
   * @throws {ContextLengthError} PROMPT_TOO_LONG: it is refused, never cut
   * @throws {QueueFullError} QUEUE_FULL
   * @throws {ClosedError} GUARD_CLOSED, ABORTED
   * @throws {NumericError} LOGITS_NOT_FINITE
   */
  async classify(input: ClassifyInput): Promise<Classification> {
    checkOptions(input, "guard.classify", CLASSIFY_OPTIONS);
    if (input?.tools?.length) throw toolsUnseen();
    const policy = input?.policy && resolvePolicy(input.policy, this.labels);
    const options = { attachments: policy?.attachments };
    return this.#ask(input, this.#forms.longest, options, (reader, part) =>
      judgeByWords(reader, this.#forms, { part, labels: this.template.labels, policy }),
    );
  }

  /**
   * Has the model write its answer, greedily, up to its end: slower than `classify`, and it may say anything. To see what
   * it makes of something by itself.
   *
   * @throws as `classify`
   */
  async generate(input: GenerateInput): Promise<string> {
    checkOptions(input, "guard.generate", GENERATE_OPTIONS);
    const { maxTokens = USUAL_GENERATED } = input ?? {};
    const ends = ENDS.map((token) => this.tokenizer.tokenId(token));
    return this.#ask(input, maxTokens, {}, async (reader) => {
      const ids: number[] = [];
      while (ids.length < maxTokens) {
        const [next] = await reader.after(ids, (logits) => likeliest(logits, 1));
        if (ends.includes(next)) break;
        ids.push(next);
      }
      return this.tokenizer.decode(ids);
    });
  }

  /**
   * How likely each token of an answer is, its end included, and what else might have been said: what OpenAI's API calls
   * logprobs.
   *
   * @param answer in the guard's own form: `Classification.text`
   * @param alternatives how many, 0 to 20
   * @throws as `classify`
   */
  async logprobs(input: ClassifyInput, answer: string, alternatives: number): Promise<TokenLogprob[]> {
    checkOptions(input, "guard.logprobs", CLASSIFY_OPTIONS);
    const end = this.tokenizer.tokenId(TURN_END) as number;
    const ids = [...this.tokenizer.encode(answer), end];
    return this.#ask(input, ids.length, {}, async (reader) => {
      const found: TokenLogprob[] = [];
      for (let i = 0; i < ids.length; i++) {
        const read = (logits: Float32Array): TokenLogprob => {
          const others = likeliest(logits, Math.min(alternatives, MOST_ALTERNATIVES));
          const [own, ...logs] = logProbabilities(logits, [ids[i], ...others]);
          return { id: ids[i], logprob: own, top: others.map((id, j) => ({ id, logprob: logs[j] })) };
        };
        found.push(await reader.after(ids.slice(0, i), read));
      }
      return found;
    });
  }

  /** Opens a conversation for as long as something is asked of it. */
  async #ask<T>(
    { messages, signal, cacheKey = "" }: ClassifyInput,
    room: number,
    options: { attachments?: "block" | "ignore" },
    question: (reader: AnswerReader, part: GenPrompt["part"]) => Promise<T>,
  ): Promise<T> {
    if (signal?.aborted) throw aborted(signal);
    const { ids, part } = await this.template.promptWithin(this.maxTokens - room, messages, options);
    if (signal?.aborted) throw aborted(signal);
    const sequence: Sequence = this.#engine.open(cacheKey);
    const onAbort = () => sequence.close(aborted(signal as AbortSignal));
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await question(new AnswerReader(sequence, ids), part);
    } finally {
      signal?.removeEventListener("abort", onAbort);
      sequence.close(new ClosedError("STREAM_CLOSED", "The verdict is there."));
    }
  }

  /** Ends what is under way and frees the model. Idempotent. */
  close(): Promise<void> {
    return this.#engine.close();
  }

  /** `await using guard = await loadGenGuard(…)` closes it. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const { messages, signal, cacheKey } = CLASSIFY_OPTIONS;
const GENERATE_OPTIONS = { messages, signal, cacheKey, maxTokens: wholeFrom(1) };

function aborted(signal: AbortSignal): ClosedError {
  return new ClosedError("ABORTED", "The classification was aborted, so there is no verdict.", {
    cause: signal.reason,
  });
}

function toolsUnseen(): InputError {
  return new InputError(
    "MESSAGES_INVALID",
    "Cannot template the messages: a Gen guard's chat template does not show tool definitions. Leave tools out, or put " +
      "what is to be judged into a message.",
  );
}

/**
 * Loads a Qwen3Guard-Gen.
 *
 * @param model an exported model directory, a checkpoint directory, or a hub id such as "Qwen/Qwen3Guard-Gen-0.6B".
 *   Checkpoints are exported on first use into a cache, keyed by content.
 * @param options as for `loadGuard`; `maxTokens` is by default 8,192 or the model's context, if that is less
 * @throws {ModelError} MODEL_IS_STREAM: it is a Qwen3Guard-Stream
 * @throws as `loadGuard`
 */
export async function loadGenGuard(model: string, options: LoadOptions = {}): Promise<GenGuard> {
  checkOptions({ model }, "loadGenGuard", { model: aText });
  checkOptions(options, "loadGenGuard", LOAD_OPTIONS);
  if (model === undefined) {
    throw new InputError(
      "MODEL_UNKNOWN",
      'loadGenGuard needs a model: a folder, or a hub id such as "Qwen/Qwen3Guard-Gen-0.6B". The embedded guard is a ' +
        "Stream guard; loadGuard loads it.",
    );
  }
  const modelDir = await resolveModel(model, options);
  const manifest = await readManifest(modelDir);
  requireKind(manifest, modelDir, "gen");
  const usual = Math.min(manifest.config.maxPositions, USUAL_TOKENS);
  const own = { ...options, maxTokens: options.maxTokens ?? usual };
  const { engine, tokenizer, template } = await loadModel(modelDir, own, async (dir, tokenizer) => {
    const template = await GenTemplate.load(dir, tokenizer);
    requireLabels(manifest, template, dir);
    return template;
  });
  return new GenGuard(modelDir, engine, tokenizer, template);
}

/** @throws {ModelError} MODEL_INVALID */
function requireLabels({ config }: Manifest, { labels }: GenTemplate, dir: string): void {
  if (
    JSON.stringify(Object.entries(labels).sort()) !== JSON.stringify(Object.entries(config.labels).sort())
  ) {
    throw new ModelError(
      "MODEL_INVALID",
      `The chat template in ${dir} names other labels than guard.json. Export the checkpoint again.`,
    );
  }
}
