import type { Generator } from "./generator/generator.js";

/** One response as its reader had it; milliseconds since it was asked for. */
export interface Reading {
  /** When the generator gave each token. */
  arrivals: number[];
  /** When all of each token had reached the reader. */
  releases: number[];
}

type Chunk = number | string | readonly number[];
type Tokens = (signal: AbortSignal) => AsyncIterable<number | string>;

/**
 * Reads a response to its end, or with `firstOnly` to its first text.
 *
 * @param through what stands between the generator and its reader
 */
export async function readResponse(
  generator: Generator,
  tokens: number,
  through: (source: Tokens) => AsyncIterable<Chunk>,
  { firstOnly = false } = {},
): Promise<Reading> {
  const started = performance.now();
  const arrivals: number[] = [];
  const ends: number[] = [];
  const releases: number[] = [];
  let out = 0;
  const stream = through(async function* (signal) {
    for await (const token of generator.respond(tokens, signal)) {
      arrivals.push(performance.now() - started);
      ends.push((ends.at(-1) ?? 0) + sizeOf(token));
      yield token;
    }
  });
  for await (const chunk of stream) {
    const now = performance.now() - started;
    out += sizeOf(chunk);
    while (releases.length < ends.length && ends[releases.length] <= out) releases.push(now);
    if (firstOnly && releases.length > 0) break;
  }
  return { arrivals, releases };
}

/** Characters, or ids. */
function sizeOf(chunk: Chunk): number {
  return typeof chunk === "number" ? 1 : chunk.length;
}

/** For each token of a response, the usual milliseconds since the one before: the median over readings. */
export function usualGaps(readings: readonly Reading[]): number[] {
  const longest = Math.max(...readings.map(({ arrivals }) => arrivals.length));
  const gaps = [Number.NaN];
  for (let i = 1; i < longest; i++) {
    gaps.push(median(readings.filter((r) => i < r.arrivals.length).map(({ arrivals }) => gap(arrivals, i))));
  }
  return gaps;
}

/** What the reader waited beyond what the generator alone takes; milliseconds, an entry a token. */
export interface Added {
  /** From a token's arrival to its release. */
  held: number[];
  /** How much longer than usual the generator took for the token. */
  slowdown: number[];
  /** Both. */
  added: number[];
}

/**
 * Compares readings through a guard with the generator's usual gaps. Tokens that came before the first one was out are
 * left out: what they waited for is the time to the first token.
 */
export function addedLatency(readings: readonly Reading[], usual: readonly number[]): Added {
  const result: Added = { held: [], slowdown: [], added: [] };
  for (const { arrivals, releases } of readings) {
    for (let i = 1; i < Math.min(releases.length, usual.length); i++) {
      if (arrivals[i] < releases[0]) continue;
      const held = releases[i] - arrivals[i];
      const slowdown = gap(arrivals, i) - usual[i];
      result.held.push(held);
      result.slowdown.push(slowdown);
      result.added.push(held + slowdown);
    }
  }
  return result;
}

/** Milliseconds between consecutive tokens. */
export function gapsOf(times: readonly number[]): number[] {
  return times.slice(1).map((_, i) => gap(times, i + 1));
}

function gap(times: readonly number[], i: number): number {
  return times[i] - times[i - 1];
}

function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
