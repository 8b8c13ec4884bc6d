import { availableParallelism } from "node:os";
import { join } from "node:path";
import { ClosedError, DeviceError, InputError, ModelError } from "../errors.js";
import type { GuardConfig } from "../model/config.js";
import { verifyFiles } from "../model/file-hashes.js";
import { type Dtype, type Manifest, MODEL_FILE, WEIGHTS_FILE } from "../model/manifest.js";
import { readManifest } from "../model/read-manifest.js";
import { type LoadProgress, modelCache } from "../resolve-model.js";
import type { Device, DeviceMemory } from "../runtime/devices/device.js";
import { CPU, type DeviceId, type DeviceName, parseDevice } from "../runtime/devices/device-id.js";
import { openDevice } from "../runtime/devices/open.js";
import { mustWidenBytes } from "../runtime/integer-kernels.js";
import { Session } from "../runtime/session.js";
import type { ElementType } from "../runtime/tensor.js";
import { BatchRunner, type StepRange } from "./batch.js";
import { type CacheShape, KvCache, slotBytes } from "./cache.js";
import { longRanges, longStepLengths } from "./long-steps.js";
import { type RecordingReport, recordSteps } from "./recording.js";
import { BuddyRanges, NearbyRows } from "./rows.js";
import { Scheduler, type SchedulerOptions } from "./scheduler.js";
import { runSelfTest } from "./self-test.js";
import { Sequence, type SequenceLimits } from "./sequence.js";
import { defaultSlots, memoryBudget, requireMemory } from "./sizing.js";

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
/** One part in so many of the memory may hold what free slots keep. */
const KEPT_SHARE = 8;
/**
 * Of a Gen guard nobody waits for the next token of a text, so a chunk may take longer: what a prompt's verdict has to read
 * goes in one run, which takes 340 ms where two take 366 (157 tokens, 0.6B shape, w8a8).
 */
const GEN_CHUNK = 256;
/** Streams that may wait for a slot. */
const MAX_WAITING = 1024;

/**
 * Idle rows on the CPU that cost less than another run, by weight format: the time that a run of one token takes over
 * the time that each further row adds. w8a8 was measured (docs/formats.md), the others are estimates.
 */
const GAP_ROWS: Partial<Record<Dtype, number>> = { fp32: 12, int8: 2, w8a8: 8, int4: 1 };

/**
 * What attention takes for a byte of the cache over what a run takes for one of the weights, which ask for arithmetic. By
 * measured breakevens: 15 sequences behind 850 tokens take 4 each in 4 steps of 125 ms or 15 chunks of 37 in w8a8, 138 and
 * 36 in int4.
 */
const CACHE_OVER_WEIGHTS = 0.5;

/** On the CPU a copy writes as well as reads, and on one thread. Measured in w8a8: 17 ms of 850 tokens against 6. */
const COPY_OVER_ATTENTION = 3;

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
  readonly #scheduler: Scheduler;
  readonly #scheduling: SchedulerOptions;
  /** What a GPU records. */
  readonly #ranges: StepRange[];
  readonly #limits: SequenceLimits;
  #recording: RecordingReport | null = null;
  #closed: Promise<void> | null = null;

  private constructor(
    manifest: Manifest,
    session: Session,
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
    const chunks = chunksFor(config, device);
    const largest = Math.max(Math.min(chunks.loneChunk, maxTokens), shape.slots);
    this.#runner = new BatchRunner(session, this.#cache, outputs, largest);
    const affordable = tokensAsLargeAsWeights(manifest, shape);
    const halved = new BuddyRanges(shape.slots, affordable);
    const longSteps = device.recorder ? longStepLengths() : [];
    this.#ranges = [...halved.ranges(), ...longRanges(shape.slots, longSteps)];
    this.#scheduling = {
      maxWaiting: MAX_WAITING,
      rows: device.recorder ? halved : new NearbyRows(GAP_ROWS[manifest.dtype] ?? 1, affordable),
      keptTokens,
      // An int8 cache's kernel turns keys into floats anew for each token of a short chunk as well.
      ...(manifest.kvCache !== "int8" && { weightTokens: Math.max(1, affordable) / CACHE_OVER_WEIGHTS }),
      ...(!device.recorder && { copyOverAttention: COPY_OVER_ATTENTION }),
      ...chunks,
      ...(longSteps.length > 0 && { fewTokens: 1, recordedChunks: longSteps }),
      ...(!this.#runner.padsChunks && { chunkLengths: device.defaults.paddedLengths }),
    };
    this.#scheduler = new Scheduler(this.#runner, this.#cache, this.#scheduling);
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
    const session = await loadSession(dir, manifest, deviceId, threads);
    let engine: Engine | undefined;
    try {
      await requireUnchanged();
      const room = memoryBudget(session.device);
      requireMemory(wanted, slotBytes(slot), room);
      const slots = options.maxStreams ?? defaultSlots(slotBytes(slot), room);
      const shape = { ...slot, slots };
      const kept = keptTokens(options.prefixCache, shape, room);
      engine = new Engine(manifest, session, threads, shape, maxTokens, kept);
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
    const scheduler = new Scheduler(this.#runner, this.#cache, this.#scheduling);
    const sequence = new Sequence(this.#limits, scheduler);
    scheduler.admit(sequence);
    try {
      await runSelfTest(this.manifest, selfTest, sequence, dir);
    } finally {
      await scheduler.stop();
    }
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
    this.#closed ??= this.#scheduler.stop().then(() => {
      this.#runner.release();
      this.session.release();
      this.#cache.free();
    });
    return this.#closed;
  }
}

function chunksFor({ kind }: GuardConfig, { defaults: { chunks } }: Device): Device["defaults"]["chunks"] {
  if (kind === "stream") return chunks;
  const chunk = Math.max(chunks.loneChunk, GEN_CHUNK);
  return { ...chunks, sharedChunk: chunk, loneChunk: chunk };
}

async function loadSession(
  dir: string,
  manifest: Manifest,
  deviceId: DeviceId,
  threads: number,
): Promise<Session> {
  const widenBytes = manifest.dtype === "w8a8" && (await mustWidenBytes(manifest.sumsFit16Bits));
  try {
    return await Session.load(join(dir, MODEL_FILE), {
      device: await openDevice(deviceId),
      threads,
      widenBytes,
      // Over an int8 cache the kernel without tiling is the faster one for single tokens (bench/results).
      flashAttention: manifest.kvCache !== "int8",
    });
  } catch (cause) {
    if (cause instanceof DeviceError && cause.code !== "ORT_ERROR") throw cause;
    throw new ModelError(
      "MODEL_NOT_LOADED",
      `ONNX Runtime cannot load ${join(dir, MODEL_FILE)}: ${(cause as Error).message}. Export the model again.`,
      { cause },
    );
  }
}

/** @throws {InputError} UNKNOWN_DEVICE, DEVICE_MISMATCH */
function chooseDevice(dir: string, { device }: Manifest, name: DeviceName): DeviceId {
  const asked = parseDevice(name);
  if (asked === "auto") return device === CPU.kind ? CPU : { kind: device, index: 0 };
  if (asked.kind === device) return asked;
  throw new InputError(
    "DEVICE_MISMATCH",
    `${dir} was exported for ${device}, and its graph does not run on ${name}. ` +
      `Name the checkpoint, or export it with --device ${asked.kind}.`,
  );
}

/** @throws {InputError} OPTION_INVALID */
function keptTokens(
  option: EngineOptions["prefixCache"],
  shape: CacheShape,
  { bytes, takenAsFilled }: DeviceMemory,
): number {
  if (option === false) return 0;
  const all = shape.slots * shape.capacity;
  if (option?.maxTokens !== undefined) {
    return whole("prefixCache.maxTokens", option.maxTokens, Number.MAX_SAFE_INTEGER);
  }
  // Where memory is taken as it fills, what stays warm is not there for others.
  const share = Math.floor(bytes / KEPT_SHARE / slotBytes({ ...shape, capacity: 1 }));
  return takenAsFilled ? Math.min(all, share) : all;
}

/** Reading this many tokens of the cache takes as long as reading all weights that a step multiplies with. */
function tokensAsLargeAsWeights({ files, config, dtype }: Manifest, shape: CacheShape): number {
  const tokenBytes = slotBytes({ ...shape, capacity: 1 });
  const tableBytes = config.vocabSize * config.hiddenSize * (dtype === "bf16" || dtype === "fp16" ? 2 : 1);
  return Math.max(0, files[WEIGHTS_FILE] - tableBytes) / tokenBytes;
}

const CACHE_TYPES = { fp32: "float32", bf16: "bfloat16", fp16: "float16", int8: "int8" } as const;

function whole(name: string, value: number, highest: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= highest) return value;
  throw new InputError(
    "OPTION_INVALID",
    `${name} is ${value}; it must be a whole number from 1 to ${highest}.`,
  );
}
