import assert from "node:assert/strict";
import fc from "fast-check";
import { expect } from "vitest";
import type { Engine } from "../../src/engine/engine.js";
import type { LogitsReader } from "../../src/engine/logits.js";
import { ClosedError } from "../../src/errors.js";
import { idle } from "../support/idle.js";

export const done = new ClosedError("STREAM_CLOSED", "done");
/** Long enough for three tokens of their own to be worth it. */
export const SHARED = 200;

export const ids = (seed: number, count: number) =>
  Array.from({ length: count }, (_, i) => (i * 37 + seed * 101 + 8) % 512);

export type Seen = Map<number, number[]>;

/** What streams are told, held against what an engine without reuse says when it reads all at once. */
export class Alike {
  readonly #plain: Engine;
  readonly #tolerance: number;
  #last: Promise<unknown> = Promise.resolve();

  constructor(plain: Engine, tolerance = 1e-3) {
    this.#plain = plain;
    this.#tolerance = tolerance;
  }

  recorder(seen: Seen): LogitsReader {
    return (logits, index, position) => {
      const values = Object.entries(logits).flatMap(([name, all]) => {
        const { width } = this.#plain.manifest.outputs.find((output) => output.name === name)!;
        return [...all.slice(index * width, (index + 1) * width)];
      });
      assert(!seen.has(position), `position ${position} is given twice`);
      seen.set(position, values);
    };
  }

  async expectSame(found: Seen, tokens: readonly number[]): Promise<void> {
    const expected = await this.#atOnce(tokens);
    for (const [position, values] of found) {
      const reference = expected.get(position) as number[];
      const distance = Math.max(...values.map((value, i) => Math.abs(value - reference[i])));
      assert(distance < this.#tolerance, `${distance} at position ${position}`);
    }
  }

  /** One at a time. */
  #atOnce(tokens: readonly number[]): Promise<Seen> {
    const result = this.#last.then(async () => {
      const seen: Seen = new Map();
      const sequence = this.#plain.open();
      await sequence.feed(tokens, this.recorder(seen));
      sequence.close(done);
      return seen;
    });
    this.#last = result;
    return result;
  }

  /** A stream of which so many tokens of its own are awaited, and five more follow. */
  open(engine: Engine, key: string, before: readonly number[], seed: number, own = 3) {
    const tokens = [...before, 300 + seed, ...ids(seed, own + 4)];
    const sequence = engine.open(key);
    const seen: Seen = new Map();
    const [shared, last] = [before.length - 1, before.length + own - 1];
    let tellJudged = () => {};
    const judged = new Promise<void>((resolve) => {
      tellJudged = resolve;
    });
    const read = this.recorder(seen);
    const tell: LogitsReader = (logits, index, position, place) => {
      read(logits, index, position, place);
      if (position === last) tellJudged();
    };
    const fed = sequence.feed(tokens, tell, 0, [shared, last]);
    fed.catch(tellJudged);
    return { sequence, seen, tokens, judged, fed };
  }

  /** Has rounds of random streams begin, most of them alike; each reads what it would read alone, and leaves its slot. */
  async playRounds(engine: Engine, numRuns: number): Promise<void> {
    let count = 0;
    await fc.assert(
      fc.asyncProperty(rounds, async (played) => {
        // In every other round there is nothing yet of what they share.
        for (const round of played) {
          const tenant = Math.floor(++count / 2);
          await Promise.all(round.map((one) => this.#play(engine, one, `${tenant}`)));
        }
        await idle(engine);
      }),
      { numRuns, examples: [[[sixAtOnce]]] },
    );
  }

  /** Reads a random stream, and closes it. */
  async #play(
    engine: Engine,
    { seed, key, shared, own, more, answer, closed }: Played,
    keys: string,
  ): Promise<void> {
    const tokens = [...ids(1, shared), ...ids(seed + 20, own + more)];
    const said = ids(seed + 40, answer);
    const seen: Seen = new Map();
    const sequence = engine.open(`${key}${keys}`);
    const reads = [...new Set([shared - 1, shared + own - 1])];
    const fed = sequence
      .feed(tokens, this.recorder(seen), 0, reads)
      .then(() => sequence.feed(said, this.recorder(seen)));
    if (closed !== null) {
      for (let turn = 0; turn < closed; turn++) await new Promise(setImmediate);
      sequence.close(done);
    }
    const complete = await fed.then(
      () => true,
      () => false,
    );
    if (closed === null) expect(complete).toBe(true);
    await this.expectSame(seen, [...tokens, ...said]);
    sequence.close(done);
  }
}

/** Of streams what became of each: "read", or the code of what ended it. */
export function outcomes(all: readonly { fed: Promise<void> }[]): Promise<string[]> {
  const ends = all.map(({ fed }) =>
    fed.then(
      () => "read",
      (error) => error.code,
    ),
  );
  return Promise.all(ends);
}

interface Played {
  seed: number;
  key: string;
  shared: number;
  /** Tokens of its own up to the last that is awaited, and behind it. */
  own: number;
  more: number;
  answer: number;
  /** Turns of the event loop after which it is closed. */
  closed: number | null;
}

/** Rounds of random streams, most of which begin alike. */
const rounds: fc.Arbitrary<Played[][]> = fc.array(
  fc.array(
    fc.record({
      seed: fc.integer({ min: 0, max: 4 }),
      key: fc.constantFrom("x", "x", "x", "x", "x", "y"),
      shared: fc.constantFrom(130, 170, SHARED, SHARED, SHARED, SHARED),
      own: fc.integer({ min: 1, max: 8 }),
      more: fc.integer({ min: 0, max: 5 }),
      answer: fc.integer({ min: 0, max: 6 }),
      closed: fc.option(fc.integer({ min: 0, max: 40 }), { freq: 3 }),
    }),
    { minLength: 1, maxLength: 8, size: "max" },
  ),
  { minLength: 1, maxLength: 3 },
);

/** Chance alone seldom has a tail run in another's row. */
const sixAtOnce: Played[] = [1, 2, 3, 4, 5, 6].map((seed) => ({
  ...{ seed: seed % 5, key: "x", shared: SHARED },
  ...{ own: 3, more: 5, answer: 0, closed: null },
}));
