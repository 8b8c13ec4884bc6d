import { availableParallelism } from "node:os";
import { ClosedError } from "../errors.js";
import { verifyFiles } from "../model/file-hashes.js";
import type { Manifest } from "../model/manifest.js";
import { modelCache } from "../model/model-cache.js";
import { readManifest } from "../model/read-manifest.js";
import type { DeviceId, DeviceName } from "../runtime/devices/device-id.js";
import type { Session } from "../runtime/session.js";
import type { ElementType } from "../runtime/tensor.js";
import { BatchRunner } from "./batch.js";
import { BranchRunner } from "./branch-runner.js";
import { type CacheShape, KvCache, slotBytes } from "./cache.js";
import { affordableGap, stepCosts, tokensAsLargeAsWeights } from "./costs.js";
import { GuestRuns } from "./guest-runs.js";
import { longRanges, longStepLengths } from "./long-steps.js";
import { chooseDevice, hasBranches, openBranches, openSession } from "./open-session.js";
import type { StepRange } from "./recorded-steps.js";
import { type RecordingReport, recordSteps } from "./recording.js";
import { BuddyRanges, NearbyRows } from "./rows.js";
import { Scheduler, type SchedulerOptions } from "./scheduler.js";
import { runSelfTest } from "./self-test.js";
import { Sequence, type SequenceLimits } from "./sequence.js";
import { defaultSlots, keptTokens, memoryBudget, requireMemory, whole } from "./sizing.js";

/** In bytes; "warm" in runs. */
export type LoadProgress = (stage: "fetch" | "hash" | "write" | "warm", done: number, total: number) => void;

export interface EngineOptions {
  /** Where to run. The model directory decides between CPU and GPU; this says which GPU, or insists. Default auto. */
  device?: DeviceName;
  /**
   * Sequences in the cache at once. Default: up to 16 on the CPU and 64 on a GPU, as many as half of its memory holds
   * when full.
   */
  maxStreams?: number;
  /** Tokens a sequence may hold, prompt and response. Default: the model's context. */
  maxTokens?: number;
  /** Threads of ONNX Runtime on the CPU. Default: the processor's, at most 8. */
  threads?: number;
  /** Records steps on a GPU when loading (CUDA graphs), so that one call starts them. Default true. */
  cudaGraphs?: boolean;
  /**
   * What of earlier conversations stays in the cache for later ones that begin alike, in tokens of all together. false
   * keeps nothing. Default: as many as the slots hold, in at most an eighth of memory.
   */
  prefixCache?: false | { maxTokens?: number };
  /** Called with "warm" while a GPU runs for the first time what takes long then. */
  onProgress?: LoadProgress;
  /** Where it is kept which files were checked already. Default: the user's cache folder, or QWEN3GUARD_CACHE. */
  cacheDir?: string;
}

const DEFAULT_THREADS = 8;
/** Warming up ends after so long, whatever is left of it. */
const WARM_UP_MS = 15_000;
/** Streams that may wait for a slot. */
const MAX_WAITING = 1024;

/** A loaded model with its KV cache: sequences go in, logits come out. */
export class Engine {
  readonly manifest: Manifest;
  readonly maxStreams: number;
  readonly maxTokens: number;
  readonly threads: number;
  readonly deviceId: DeviceId;
  /** The loaded graph. Benches run it beside the engine, to see what the engine costs. */
  readonly session: Session;
  readonly #cache: KvCache;
  readonly #runner: BatchRunner;
  readonly #guestRuns: GuestRuns;
  readonly #scheduler: Scheduler;
  readonly #scheduling: SchedulerOptions;
  /** What a GPU records. */
  readonly #ranges: StepRange[];
  readonly #limits: SequenceLimits;
  #recording: RecordingReport | null = null;
  #closed: Promise<void> | null = null;

  private constructor(
    manifest: Manifest,
    { session, branches }: { session: Session; branches: (() => Promise<Session>) | null },
    threads: number,
    shape: CacheShape,
    maxTokens: number,
    keptTokens: number,
  ) {
    const { config, outputs } = manifest;
    this.manifest = manifest;
    this.maxStreams = shape.slots;
    this.maxTokens = maxTokens;
    this.threads = threads;
    this.session = session;
    const { device } = session;
    this.deviceId = device.id;
    this.#cache = new KvCache(shape, device);
    const costs = stepCosts(manifest, shape, device);
    const largest = Math.max(Math.min(costs.loneChunk + (costs.leftover ?? 0), maxTokens), shape.slots);
    this.#runner = new BatchRunner(session, this.#cache, outputs, largest);
    const open = branches && (async () => BranchRunner.over(await branches(), this.#cache, outputs, largest));
    this.#guestRuns = new GuestRuns(this.#runner, manifest, open);
    const affordable = tokensAsLargeAsWeights(manifest, shape);
    const halved = new BuddyRanges(shape.slots, affordable);
    const longSteps = device.recorder ? longStepLengths() : [];
    this.#ranges = [...halved.ranges(), ...longRanges(shape.slots, longSteps)];
    this.#scheduling = {
      maxWaiting: MAX_WAITING,
      rows: device.recorder ? halved : new NearbyRows(affordableGap(manifest), affordable),
      keptTokens,
      ...costs,
      ...(longSteps.length > 0 && { fewTokens: 1, recordedChunks: longSteps }),
      ...(!this.#runner.padsChunks && { chunkLengths: device.defaults.paddedLengths }),
    };
    this.#scheduler = this.#newScheduler();
    this.#limits = { maxTokens, vocabSize: config.vocabSize, outputs };
  }

  /**
   * Loads an exported model directory: checks that its files are those that were exported, and that the model says of a
   * short conversation what its checkpoint says.
   *
   * @throws {ModelError} MODEL_NOT_FOUND, MODEL_INVALID, MODEL_TOO_OLD, MODEL_TOO_NEW, MODEL_INCOMPLETE, MODEL_CHANGED,
   *   MODEL_NOT_LOADED, SELF_TEST_FAILED
   * @throws {InputError} OPTION_INVALID, UNKNOWN_DEVICE, DEVICE_MISMATCH
   * @throws {DeviceError} ORT_NOT_FOUND, OUT_OF_MEMORY, KERNEL_INEXACT, CUDA_UNAVAILABLE, CUDA_ERROR, NODE_ON_CPU
   */
  static async load(dir: string, options: EngineOptions = {}): Promise<Engine> {
    const manifest = await readManifest(dir);
    const deviceId = chooseDevice(dir, manifest, options.device ?? "auto");
    const { config } = manifest;
    const maxTokens = whole("maxTokens", options.maxTokens ?? config.maxPositions, config.maxPositions);
    const wanted = whole("maxStreams", options.maxStreams ?? 1, 4096);
    const threads = whole(
      "threads",
      options.threads ?? Math.min(availableParallelism(), DEFAULT_THREADS),
      1024,
    );
    const slot = {
      layers: config.layers,
      kvHeads: config.kvHeads,
      headDim: manifest.cachedHeadSize,
      type: CACHE_TYPES[manifest.kvCache],
      // A full row that idles in a batch with others still writes one position.
      capacity: maxTokens + 1,
    };
    // Before native code reads them.
    const requireUnchanged = await verifyFiles(dir, manifest, options.cacheDir ?? modelCache());
    const source = { dir, manifest, deviceId, threads };
    const session = await openSession(source);
    let engine: Engine | undefined;
    try {
      await requireUnchanged();
      const room = memoryBudget(session.device);
      requireMemory(wanted, slotBytes(slot), room);
      const slots = options.maxStreams ?? defaultSlots(slotBytes(slot), room);
      const shape = { ...slot, slots };
      const kept = keptTokens(options.prefixCache, shape, room);
      const branches = hasBranches(manifest) ? () => openBranches(source, requireUnchanged) : null;
      engine = new Engine(manifest, { session, branches }, threads, shape, maxTokens, kept);
      if (session.device.defaults.paddedLengths) await engine.#prepare(options);
      await engine.#test(dir);
      return engine;
    } catch (error) {
      if (engine) await engine.close();
      else session.release();
      throw error;
    }
  }

  /** Does what the first streams would otherwise wait for. */
  async #prepare({ cudaGraphs = true, onProgress }: EngineOptions): Promise<void> {
    const { device } = this.session;
    const { chunks, paddedLengths = [] } = device.defaults;
    const longest = Math.min(chunks.loneChunk, this.maxTokens);
    // The longest first: the memory that it takes does for the others.
    await this.#warmUp(
      [longest, ...paddedLengths.filter((length) => length < longest).reverse()],
      onProgress,
    );
    if (device.recorder && cudaGraphs) {
      this.#recording = await recordSteps(this.#runner, device, {
        ranges: this.#ranges,
        slots: this.maxStreams,
        ...this.#limits,
      });
    }
    if (this.#runner.recorded === this.#ranges.length) return;
    for (const count of new Set(this.#ranges.map(({ count }) => count))) await this.#runner.warmUp(count, 1);
  }

  /** Runs chunks of these lengths, as far as time allows. */
  async #warmUp(lengths: readonly number[], onProgress?: LoadProgress): Promise<void> {
    const end = performance.now() + WARM_UP_MS;
    for (const [done, length] of lengths.entries()) {
      onProgress?.("warm", done, lengths.length);
      await this.#runner.warmUp(1, length);
      if (performance.now() > end) break;
    }
    onProgress?.("warm", lengths.length, lengths.length);
  }

  /** How steps are recorded on a GPU; null where none are to be. */
  get recording(): RecordingReport | null {
    return this.#recording;
  }

  async #test(dir: string): Promise<void> {
    const { selfTest } = this.manifest;
    if (!selfTest) return;
    // Of its own, so that the first prompt does not take these tokens for another stream's.
    const scheduler = this.#newScheduler();
    const sequence = new Sequence(this.#limits, scheduler);
    scheduler.admit(sequence);
    try {
      await runSelfTest(this.manifest, selfTest, sequence, dir);
    } finally {
      await scheduler.stop();
    }
  }

  #newScheduler(): Scheduler {
    return new Scheduler(this.#runner, this.#guestRuns, this.#cache, this.#scheduling);
  }

  /** Recorded steps (CUDA graphs). */
  get recordedSteps(): number {
    return this.#runner.recorded;
  }

  /**
   * The cached keys and values of a sequence that holds a slot: layer 0 keys, layer 0 values, layer 1 keys, … each
   * [kv_heads, capacity, head_dim] float32, filled up to the sequence's length. The cache's own memory, not a copy.
   */
  cached(sequence: Sequence): Float32Array[] {
    return this.#cache.contents(sequence.slot!);
  }

  /**
   * Sequences that hold a slot, and sequences that wait for one; tokens of prompts so far that were in the cache already,
   * and that ran.
   */
  get load(): { active: number; waiting: number; reusedTokens: number; prefilledTokens: number } {
    const { active, waiting, prefixTotals } = this.#scheduler;
    return { active, waiting, reusedTokens: prefixTotals.reused, prefilledTokens: prefixTotals.prefilled };
  }

  /** Has sequences of all keys use a beginning again that tells nothing of anybody, such as a template's instructions. */
  publish(ids: readonly number[]): void {
    this.#scheduler.publish(ids);
  }

  get cacheType(): ElementType {
    return this.#cache.shape.type;
  }

  /** For how many milliseconds nothing has run; 0 while something does, or waits to. */
  get restedMs(): number {
    return this.#scheduler.restedMs;
  }

  /**
   * Starts a sequence that runs only while nothing else does; closed as soon as something else is to run, or where no
   * slot is free.
   *
   * @throws {ClosedError} GUARD_CLOSED
   */
  openBackground(key: string): Sequence {
    return this.#open(key, true);
  }

  /**
   * Starts a sequence. It gets a slot at once, or when it is its turn; feeds may be made right away.
   *
   * @param key what was read under the same key is not read again; null shares nothing
   * @throws {ClosedError} GUARD_CLOSED
   * @throws {QueueFullError} QUEUE_FULL
   */
  open(key: string | null = null): Sequence {
    return this.#open(key);
  }

  #open(key: string | null, background = false): Sequence {
    if (this.#closed) throw new ClosedError("GUARD_CLOSED", "The guard was closed. Load it again to go on.");
    const sequence = new Sequence(this.#limits, this.#scheduler, key, background);
    this.#scheduler.admit(sequence);
    return sequence;
  }

  /** Closes every sequence and frees the model. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#scheduler.stop().then(async () => {
      await this.#guestRuns.release();
      this.#runner.release();
      this.session.release();
      this.#cache.free();
    });
    return this.#closed;
  }
}

const CACHE_TYPES = { fp32: "float32", bf16: "bfloat16", fp16: "float16", int8: "int8" } as const;
