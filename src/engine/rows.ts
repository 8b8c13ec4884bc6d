/** Consecutive rows of the cache. */
export interface RowRange {
  first: number;
  count: number;
}

/** Decides which rows share a run: every row between the first and the last of a range is part of it, idle or not. */
export interface RowPlan {
  /**
   * @param rows those with a token to run, ascending
   * @param held tokens in the cache at each row
   * @returns ranges that cover them, ascending and apart
   */
  group(rows: readonly number[], held: (row: number) => number): RowRange[];
}

/** Any rows together that are not too far apart: for the CPU, where a range of any shape runs alike. */
export class NearbyRows implements RowPlan {
  readonly #gapRows: number;
  readonly #affordable: number;

  /**
   * @param gapRows idle rows between two others that cost less than one more run
   * @param affordable tokens of idle rows that take as long to read as one more run
   */
  constructor(gapRows: number, affordable = Number.POSITIVE_INFINITY) {
    this.#gapRows = gapRows;
    this.#affordable = affordable;
  }

  group(rows: readonly number[], held: (row: number) => number = () => 0): RowRange[] {
    const ranges: RowRange[] = [];
    for (const row of rows) {
      const last = ranges.at(-1);
      if (last && this.#isCheap(last.first + last.count, row, held)) last.count = row - last.first + 1;
      else ranges.push({ first: row, count: 1 });
    }
    return ranges;
  }

  /** Whether idle rows cost less than one more run: for being there, and for the tokens they hold. */
  #isCheap(from: number, to: number, held: (row: number) => number): boolean {
    let tokens = 0;
    for (let row = from; row < to; row++) tokens += held(row);
    return to === from || (to - from) / this.#gapRows + tokens / this.#affordable <= 1;
  }
}

/** Rows are halved until there are this many ranges of a size: each more takes time to record and memory to keep. */
const RANGES = 16;

/**
 * Few ranges that serve all rows, for recorded runs: the rows halved again and again, those at the beginning, which are
 * given out first, down to single rows.
 */
export class BuddyRanges implements RowPlan {
  readonly #slots: number;
  readonly #affordable: number;

  /** @param affordable tokens of idle rows that take as long to read as all weights, so as long as one more run */
  constructor(slots: number, affordable: number) {
    this.#slots = slots;
    this.#affordable = affordable;
  }

  /** Every range that `group` may return, larger ones first. */
  ranges(): RowRange[] {
    const found = new Map<string, RowRange>();
    const visit = (first: number, size: number) => {
      const range = this.#range(first, size);
      if (range.count <= 0) return;
      found.set(`${range.first}+${range.count}`, range);
      if (this.#isWhole(first, size)) return;
      visit(first, size / 2);
      visit(first + size / 2, size / 2);
    };
    visit(0, this.#top);
    return [...found.values()].sort((a, b) => b.count - a.count || a.first - b.first);
  }

  group(rows: readonly number[], held: (row: number) => number): RowRange[] {
    const cover = (inside: readonly number[], first: number, size: number): RowRange[] => {
      if (inside.length === 0) return [];
      const middle = first + size / 2;
      const left = inside.filter((row) => row < middle);
      const range = this.#range(first, size);
      const apart = left.length === 0 || left.length === inside.length;
      if (this.#isWhole(first, size) || (!apart && this.#isCheap(range, inside, held))) return [range];
      const right = inside.filter((row) => row >= middle);
      return [...cover(left, first, size / 2), ...cover(right, middle, size / 2)];
    };
    return cover(rows, 0, this.#top);
  }

  get #top(): number {
    return 2 ** Math.ceil(Math.log2(this.#slots));
  }

  /** Whether a range is never halved. */
  #isWhole(first: number, size: number): boolean {
    return size === 1 || (first > 0 && size <= this.#top / RANGES);
  }

  #isCheap({ first, count }: RowRange, rows: readonly number[], held: (row: number) => number): boolean {
    let idle = 0;
    for (let row = first; row < first + count; row++) if (!rows.includes(row)) idle += held(row);
    return idle <= this.#affordable;
  }

  #range(first: number, size: number): RowRange {
    return { first, count: Math.min(size, this.#slots - first) };
  }
}
