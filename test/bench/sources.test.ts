import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Endpoint } from "../../bench/generator/endpoint.js";
import { PUBLISHED } from "../../bench/generator/published.js";
import { Replay } from "../../bench/generator/replay.js";
import { summarize, timeFor } from "../../bench/stats.js";

const signal = new AbortController().signal;

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of source) all.push(item);
  return all;
}

describe("Replay", () => {
  it("gives ids or words, one a token", async () => {
    const ids = await collect(new Replay("0.1", "ids").respond(5, signal));
    expect(ids.every((id) => Number.isInteger(id))).toBe(true);
    const words = await collect(new Replay("0.1", "text").respond(5, signal));
    expect(words.join("")).toBe(" mix the flour with water");
  });

  it("stops when nobody wants more", async () => {
    const controller = new AbortController();
    const ids: unknown[] = [];
    for await (const id of new Replay("0.1", "ids").respond(100, controller.signal)) {
      ids.push(id);
      controller.abort();
    }
    expect(ids).toHaveLength(1);
  });

  it("knows where its paces come from", () => {
    for (const { itlMs, source, what } of Object.values(PUBLISHED)) {
      expect(itlMs).toBeGreaterThan(0);
      expect(source).toMatch(/^https:/);
      expect(what).not.toBe("");
    }
    expect(PUBLISHED["llama3.1-8b-h200"].itlMs).toBe(6.51);
    expect(() => new Replay("soon", "ids")).toThrow("gpt-4o");
  });
});

describe("Endpoint", () => {
  let server: Server;
  let base: string;
  const requests: { model: string; max_tokens: number }[] = [];
  beforeAll(async () => {
    server = createServer(async (request, response) => {
      const { model, max_tokens } = JSON.parse((await collect(request)).join(""));
      requests.push({ model, max_tokens });
      if (model === "none") return response.writeHead(404).end('{"error": "no such model"}');
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (const content of ["Bread", " is", " baked"].slice(0, max_tokens)) {
        response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`);
      }
      response.end("data: [DONE]\n\n");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/`;
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  it("gives the text of each event", async () => {
    const texts = await collect(new Endpoint(base, "bread", "How?").respond(3, signal));
    expect(texts).toEqual(["Bread", " is", " baked"]);
    expect(requests.at(-1)).toEqual({ model: "bread", max_tokens: 3 });
  });

  it("says what the server says", async () => {
    const refused = collect(new Endpoint(base, "none", "How?").respond(3, signal));
    await expect(refused).rejects.toThrow(/answered 404: .*no such model/);
  });
});

describe("stats", () => {
  it("summarizes, and refuses to summarize nothing", () => {
    expect(summarize([3, 1, 2])).toMatchObject({ n: 3, min: 1, p50: 2, max: 3 });
    expect(() => summarize([])).toThrow("nothing was measured");
  });

  it("times at least and at most so often", async () => {
    expect(await timeFor(0, { least: 3, most: 5 }, () => {})).toHaveLength(3);
    expect(await timeFor(60_000, { least: 3, most: 5 }, () => {})).toHaveLength(5);
  });
});
