/** Percentiles of measured times, in the unit that went in. */
export interface Summary {
  n: number;
  min: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
}

/** @throws {RangeError} where nothing was measured */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0) throw new RangeError("nothing was measured");
  const sorted = Float64Array.from(values).sort();
  const at = (q: number) => round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]);
  return { n: sorted.length, min: at(0), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

export function round(value: number, digits = 4): number {
  return Number(value.toPrecision(digits));
}

/** Times `work` in milliseconds until `budgetMs` is spent, at least `least` and at most `most` times. */
export async function timeFor(
  budgetMs: number,
  { least, most }: { least: number; most: number },
  work: (i: number) => unknown,
): Promise<number[]> {
  const times: number[] = [];
  const end = performance.now() + budgetMs;
  while (times.length < least || (times.length < most && performance.now() < end)) {
    const start = performance.now();
    await work(times.length);
    times.push(performance.now() - start);
  }
  return times;
}

/** Times `work` in milliseconds, `count` times after `warmup` unmeasured ones. */
export async function time(count: number, warmup: number, work: (i: number) => unknown): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < warmup + count; i++) {
    const start = performance.now();
    await work(i);
    if (i >= warmup) times.push(performance.now() - start);
  }
  return times;
}
