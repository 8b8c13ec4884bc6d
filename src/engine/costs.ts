import { type Dtype, type Manifest, WEIGHTS_FILE } from "../model/manifest.js";
import type { Device } from "../runtime/devices/device.js";
import { type CacheShape, slotBytes } from "./cache.js";
import { COPIES_A_TOKEN } from "./prefix-cache.js";

/** What steps of a model cost on a device, as far as it decides which tokens go together. */
export interface StepCosts {
  /** Tokens of a prompt in one run while tokens of other sequences keep coming: they wait no longer than it takes. */
  sharedChunk: number;
  /** The same otherwise: enough for the kernels to be at their best. */
  loneChunk: number;
  /** So many tokens more go along in the last of such chunks: as one of their own they would read all weights again. Default 0. */
  leftover?: number;
  /** This many tokens of a sequence cost less one by one than in a chunk of their own. */
  fewTokens: number;
  /**
   * Tokens of the cache that attention takes as long for as a run for its weights. A chunk reads its sequence's cache once,
   * single tokens each anew. Default: a chunk saves nothing there.
   */
  weightTokens?: number;
  /** Whether attention reads the cache anew for each token of a chunk as well. */
  readsAnew?: boolean;
  /** What a copy of tokens within the cache takes over what attention takes for them. Default: nothing. */
  copyOverAttention?: number;
}

/**
 * Of a Gen guard nobody waits for the next token of a text, so a chunk may take longer: what a prompt's verdict has to read
 * goes in one run, which takes 340 ms where two take 366 (157 tokens, 0.6B shape, w8a8).
 */
const GEN_CHUNK = 256;

/**
 * One part in so many of a chunk, more than it has, goes along: a prompt of 130 tokens takes 225 ms in one run and 248 in 128 and 2
 * (0.6B shape, w8a8). What arrives meanwhile waits for no more than so much longer.
 */
const LEFTOVER_SHARE = 8;

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

/**
 * The same where the weights stay in the processor's own cache from run to run, and the sequences' rows do not: of the embedded
 * model 1,000 tokens of a row (4 MB) take 0.26 ms, the weights (20 MB) 0.42.
 */
const CACHE_OVER_KEPT_WEIGHTS = 3;
/** Bytes of weights that stay there. */
export const MOST_KEPT = 32 * 2 ** 20;

/** On the CPU a copy writes as well as reads, and on one thread. Measured in w8a8: 17 ms of 850 tokens against 6. */
const COPY_OVER_ATTENTION = 3;

export function stepCosts(manifest: Manifest, shape: CacheShape, { defaults, recorder }: Device): StepCosts {
  const { chunks } = defaults;
  const isGen = manifest.config.kind !== "stream";
  const loneChunk = isGen ? Math.max(chunks.loneChunk, GEN_CHUNK) : chunks.loneChunk;
  const bytes = weightBytes(manifest);
  const cacheOverWeights = !recorder && bytes < MOST_KEPT ? CACHE_OVER_KEPT_WEIGHTS : CACHE_OVER_WEIGHTS;
  return {
    ...chunks,
    loneChunk,
    ...(isGen && { sharedChunk: loneChunk }),
    weightTokens: Math.max(1, tokensAsLargeAsWeights(manifest, shape)) / cacheOverWeights,
    // An int8 cache's kernel turns keys into floats for each token of a short chunk.
    readsAnew: manifest.kvCache === "int8",
    ...(!recorder && {
      copyOverAttention: COPY_OVER_ATTENTION,
      leftover: Math.floor(loneChunk / LEFTOVER_SHARE),
    }),
  };
}

/** Idle rows on the CPU between two others that cost less than another run. */
export function affordableGap({ dtype }: Manifest): number {
  return GAP_ROWS[dtype] ?? 1;
}

/** So many tokens of the cache are as large as all weights that a step multiplies with. */
export function tokensAsLargeAsWeights(manifest: Manifest, shape: CacheShape): number {
  return weightBytes(manifest) / slotBytes({ ...shape, capacity: 1 });
}

/** Bytes of all weights that a step multiplies with. */
export function weightBytes({ files, config, dtype }: Manifest): number {
  const tableBytes = config.vocabSize * config.hiddenSize * (dtype === "bf16" || dtype === "fp16" ? 2 : 1);
  return Math.max(0, files[WEIGHTS_FILE] - tableBytes);
}

/**
 * Whether a sequence runs its tokens in a chunk of their own, since attention takes several tokens a row only for a
 * single row. A chunk reads all weights and the sequence's cache once; single tokens, in steps that `all` share, read a
 * share of the weights each, and the cache each anew. Tokens behind the last that somebody waits for come later.
 *
 * @param sequence its tokens in the cache, those that are to run, and of these those up to the last that is waited for
 */
export function isBetterApart(
  costs: StepCosts,
  { held, count, awaited }: { held: number; count: number; awaited: () => number },
  all: number,
): boolean {
  if (count <= costs.fewTokens) return false;
  const tokens = awaited();
  return together(costs, { all, tokens, held }) > all * chunk(costs, { tokens, held });
}

/**
 * Which of several sequences, which share `length` tokens, run so many more each in the row of one. That takes all weights and
 * the cache once for each, but no copy ahead of it. Those tokens run again when a sequence goes on, which must cost less than
 * its copy.
 */
export function fitInRow(costs: StepCosts, counts: readonly number[], length: number): boolean[] {
  const { fewTokens, sharedChunk, copyOverAttention = 0 } = costs;
  const most = Math.min(sharedChunk, length / COPIES_A_TOKEN);
  const few = counts.map((count) => count > 0 && count <= most);
  const fitting = counts.filter((_, i) => few[i]);
  const all = fitting.length;
  const tokens = fitting.reduce((sum, count) => sum + count, 0) / all;
  const of = { all, tokens, held: length };
  const copies = all * copyOverAttention * attention(costs, length);
  const pays = together(costs, of) + copies > all * chunk(costs, of);
  return few.map((fits) => fits && tokens > fewTokens && pays);
}

/** What steps of a token of each of `all` sequences cost, so many of them, in runs for the weights alone. */
function together(
  costs: StepCosts,
  { all, tokens, held }: { all: number; tokens: number; held: number },
): number {
  return tokens * (1 + all * attention(costs, held));
}

/** The same of a chunk of one sequence. */
function chunk(costs: StepCosts, { tokens, held }: { tokens: number; held: number }): number {
  return 1 + (costs.readsAnew ? tokens : 1) * attention(costs, held);
}

/** The same of what attention takes for so many tokens of the cache. */
function attention({ weightTokens = Number.POSITIVE_INFINITY }: StepCosts, held: number): number {
  return held / weightTokens;
}
