import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { ClosedError, InputError, ModelError } from "../errors.js";
import { type Dtype, type Manifest, MODEL_FILE, readManifest } from "../export/manifest.js";
import { Session } from "../ort/session.js";
import type { ElementType } from "../ort/tensor.js";
import { BatchRunner } from "./batch.js";
import { type CacheShape, KvCache, slotBytes } from "./cache.js";
import { mustWidenBytes } from "../export/integer-kernels.js";
import type { HeadWidths } from "./logits.js";
import { LONE_CHUNK, Scheduler } from "./scheduler.js";
import { Sequence, type SequenceLimits } from "./sequence.js";

export interface EngineOptions {
  /** Sequences in the cache at once. Default: up to 16, as many as half of the machine's memory holds when full. */
  maxStreams?: number;
  /** Tokens a sequence may hold, prompt and response. Default: the model's context. */
  maxTokens?: number;
  /** Threads of ONNX Runtime. Default: the processor's, at most 8. */
  threads?: number;
}

const DEFAULT_STREAMS = 16;
const DEFAULT_THREADS = 8;
/** Streams that may wait for a slot. */
const MAX_WAITING = 1024;

/**
 * Idle rows that cost less than another run, by weight format: the time to read all weights once over the time that a
 * further row of the same step takes. From the measurements in docs/architecture.md.
 */
const GAP_ROWS: Record<Dtype, number> = { fp32: 12, bf16: 64, fp16: 64, int8: 2, w8a8: 8, int4: 1 };

/** A loaded model with its KV cache: sequences go in, logits come out. */
export class Engine {
  readonly manifest: Manifest;
  readonly maxStreams: number;
  readonly maxTokens: number;
  readonly threads: number;
  /** The loaded graph. Benches run it beside the engine, to see what the engine costs. */
  readonly session: Session;
  readonly #cache: KvCache;
  readonly #runner: BatchRunner;
  readonly #scheduler: Scheduler;
  readonly #limits: SequenceLimits;
  #closed: Promise<void> | null = null;

  private constructor(
    manifest: Manifest,
    session: Session,
    threads: number,
    shape: CacheShape,
    maxTokens: number,
  ) {
    const { config } = manifest;
    this.manifest = manifest;
    this.maxStreams = shape.slots;
    this.maxTokens = maxTokens;
    this.threads = threads;
    const widths: HeadWidths = {
      promptRisk: config.labels.promptRisk.length,
      promptCategory: config.labels.promptCategory.length,
      responseRisk: config.labels.responseRisk.length,
      responseCategory: config.labels.responseCategory.length,
    };
    this.session = session;
    this.#cache = new KvCache(shape);
    const largest = Math.max(LONE_CHUNK, shape.slots);
    this.#runner = new BatchRunner(session, this.#cache, widths, largest);
    this.#scheduler = new Scheduler(this.#runner, this.#cache, {
      maxWaiting: MAX_WAITING,
      gapRows: GAP_ROWS[manifest.dtype],
    });
    this.#limits = { maxTokens, vocabSize: config.vocabSize, widths };
  }

  /**
   * Loads an exported model directory.
   *
   * @throws {ModelError} MODEL_NOT_FOUND, MODEL_INVALID, MODEL_TOO_NEW, MODEL_INCOMPLETE, MODEL_NOT_LOADED
   * @throws {InputError} OPTION_INVALID
   * @throws {DeviceError} ORT_NOT_FOUND, OUT_OF_MEMORY, KERNEL_INEXACT
   */
  static async load(dir: string, options: EngineOptions = {}): Promise<Engine> {
    const manifest = await readManifest(dir);
    const { config } = manifest;
    const maxTokens = whole("maxTokens", options.maxTokens ?? config.maxPositions, config.maxPositions);
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
    const affordable = Math.floor(totalmem() / 2 / slotBytes(slot));
    const slots = whole(
      "maxStreams",
      options.maxStreams ?? Math.max(1, Math.min(DEFAULT_STREAMS, affordable)),
      4096,
    );
    const widenBytes = manifest.dtype === "w8a8" && (await mustWidenBytes());
    const session = await Session.load(join(dir, MODEL_FILE), {
      threads,
      widenBytes,
      // Over an int8 cache the kernel without tiling is the faster one for single tokens (bench/results).
      flashAttention: manifest.kvCache !== "int8",
    }).catch((cause) => {
      throw new ModelError(
        "MODEL_NOT_LOADED",
        `ONNX Runtime cannot load ${join(dir, MODEL_FILE)}: ${cause.message}. Export the model again.`,
        { cause },
      );
    });
    try {
      return new Engine(manifest, session, threads, { ...slot, slots }, maxTokens);
    } catch (error) {
      session.release();
      throw error;
    }
  }

  /**
   * The cached keys and values of a sequence that holds a slot: layer 0 keys, layer 0 values, layer 1 keys, … each
   * [kv_heads, capacity, head_dim] float32, filled up to the sequence's length. The cache's own memory, not a copy.
   */
  cached(sequence: Sequence): Float32Array[] {
    return this.#cache.contents(sequence.slot!);
  }

  /** Sequences that hold a slot, and sequences that wait for one. */
  get load(): { active: number; waiting: number } {
    return { active: this.#scheduler.active, waiting: this.#scheduler.waiting };
  }

  get cacheType(): ElementType {
    return this.#cache.shape.type;
  }

  /** Bytes the cache takes when every slot is full. */
  get cacheBytes(): number {
    return this.#cache.shape.slots * slotBytes(this.#cache.shape);
  }

  /**
   * Starts a sequence. It gets a slot at once, or when it is its turn; feeds may be made right away.
   *
   * @throws {ClosedError} GUARD_CLOSED
   * @throws {QueueFullError} QUEUE_FULL
   */
  open(): Sequence {
    if (this.#closed) throw new ClosedError("GUARD_CLOSED", "The guard was closed. Load it again to go on.");
    const sequence = new Sequence(this.#limits, this.#scheduler);
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

const CACHE_TYPES = { fp32: "float32", bf16: "bfloat16", fp16: "float16", int8: "int8" } as const;

function whole(name: string, value: number, highest: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= highest) return value;
  throw new InputError(
    "OPTION_INVALID",
    `${name} is ${value}; it must be a whole number from 1 to ${highest}.`,
  );
}
