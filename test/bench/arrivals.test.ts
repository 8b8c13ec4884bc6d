import { describe, expect, it } from "vitest";
import { addedLatency, gapsOf, readResponse, usualGaps } from "../../bench/arrivals.js";
import type { Generator } from "../../bench/generator/generator.js";

const generator = (tokens: (number | string)[]): Generator => ({
  name: "scripted",
  about: {},
  async *respond(count) {
    yield* tokens.slice(0, count);
  },
  close: async () => {},
});

describe("readResponse", () => {
  it("takes a token for released when all of its text is", async () => {
    const reading = await readResponse(generator([" ab", " cd", " ef"]), 3, async function* (source) {
      const controller = new AbortController();
      let text = "";
      for await (const token of source(controller.signal)) text += token;
      yield text.slice(0, 5);
      yield text.slice(5);
    });
    expect(reading.arrivals).toHaveLength(3);
    expect(reading.releases).toHaveLength(3);
    expect(reading.releases[1]).toBeGreaterThanOrEqual(reading.arrivals[2]);
    expect(reading.releases[1]).toBe(reading.releases[2]);
  });

  it("counts ids, one by one or in lists, and stops after the first if asked", async () => {
    const lists = await readResponse(generator([7, 8, 9]), 3, async function* (source) {
      for await (const id of source(new AbortController().signal)) yield [id as number];
    });
    expect(lists.releases).toHaveLength(3);
    const alone = (source: (signal: AbortSignal) => AsyncIterable<number | string>) =>
      source(new AbortController().signal);
    expect((await readResponse(generator([7, 8]), 2, alone)).releases).toHaveLength(2);
    expect((await readResponse(generator([7, 8]), 2, alone, { firstOnly: true })).releases).toHaveLength(1);
  });
});

describe("addedLatency", () => {
  const alone = [
    { arrivals: [100, 110, 120, 130], releases: [] },
    { arrivals: [100, 112, 122, 132], releases: [] },
    { arrivals: [100, 111, 121, 131], releases: [] },
  ];

  it("takes the median gap of each token for the usual one", () => {
    expect(usualGaps(alone).slice(1)).toEqual([11, 10, 10]);
    expect(usualGaps([...alone, { arrivals: [0, 1, 2, 3, 9], releases: [] }])[4]).toBe(6);
    expect(gapsOf([1, 4, 9])).toEqual([3, 5]);
  });

  it("adds what a token was held and what it came late", () => {
    const guarded = [{ arrivals: [100, 114, 124, 134], releases: [105, 120, 126, 140] }];
    expect(addedLatency(guarded, [Number.NaN, 11, 10, 10])).toEqual({
      held: [6, 2, 6],
      slowdown: [3, 0, 0],
      added: [9, 2, 6],
    });
  });

  it("leaves out what came before anything was out", () => {
    const guarded = [{ arrivals: [100, 110, 120, 130], releases: [125, 125, 125, 131] }];
    expect(addedLatency(guarded, [Number.NaN, 10, 10, 10]).held).toEqual([1]);
  });
});
