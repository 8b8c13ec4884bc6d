import { Agent, request } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { GuardProxy } from "../../src/gateway/proxy.js";
import { type Listening, listen } from "../../src/gateway/server.js";
import { type Guard, loadGuard } from "../../src/guard.js";
import { temporaryFolder } from "../support/model.js";
import { chunk, scriptedUpstream, sse } from "./upstream.js";

const STREAMS = 1000;
const AT_ONCE = 12;

let guard: Guard;
let server: Listening;
let proxy: GuardProxy;
let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;

beforeAll(async () => {
  guard = await loadGuard(undefined, { cacheDir: await temporaryFolder(), maxStreams: 16, maxTokens: 1024 });
  upstream = await scriptedUpstream();
  // Verdicts are the guard's own; what they are is no matter here, so nothing is stopped for them.
  proxy = new GuardProxy(guard, { upstream: upstream.url, policy: { action: "observe" } });
  server = await listen(proxy, 0, "127.0.0.1");
});
afterAll(async () => {
  await server?.close(0);
  await upstream?.close();
  await guard?.close();
});

/** The answer to the n-th request: every word names it. */
function answerTo(n: number): string[] {
  return Array.from({ length: 1 + (n % 6) }, (_, i) => `${n} says ${i}. `);
}

test("1,000 streams, many of them left midway: no slot leaks, no text crosses over, memory stays", {
  timeout: 240_000,
}, async () => {
  upstream.answerWith(({ body }) => {
    const n = Number(JSON.parse(body).messages[0].content.split(" ")[1]);
    return {
      script: [
        ...answerTo(n).map((content) => sse(chunk({ content }))),
        sse(chunk({}, "stop")),
        "data: [DONE]\n\n",
      ],
    };
  });
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  const seed = random(7);
  const ends = { whole: 0, left: 0 };
  let next = 0;
  const rss: number[] = [];

  async function client(): Promise<void> {
    while (next < STREAMS) {
      const n = next++;
      if (n % 100 === 0) rss.push(process.memoryUsage().rss);
      const leaveAfter = seed() < 0.4 ? Math.floor(seed() * 6) : Number.POSITIVE_INFINITY;
      const { text, left } = await ask(agent, server.url, n, leaveAfter);
      const expected = answerTo(n).join("");
      if (left) {
        ends.left++;
        expect(expected.startsWith(text)).toBe(true);
      } else {
        ends.whole++;
        expect(text).toBe(expected);
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, client));
  agent.destroy();

  expect(ends.whole + ends.left).toBe(STREAMS);
  expect(ends.left).toBeGreaterThan(100);
  await expect.poll(() => proxy.streams, { timeout: 10_000 }).toBe(0);
  await expect.poll(() => guard.load, { timeout: 10_000 }).toMatchObject({ active: 0, waiting: 0 });
  // Far from a measurement, which the soak bench makes: a stream that stayed would hold more than this.
  expect(rss.at(-1)! - rss[3]).toBeLessThan(200e6);
});

/** Asks as request n, and leaves after so many reads. */
function ask(
  agent: Agent,
  url: string,
  n: number,
  leaveAfter: number,
): Promise<{ text: string; left: boolean }> {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify({
      model: "m",
      stream: true,
      messages: [{ role: "user", content: `request ${n}` }],
    });
    let raw = "";
    let reads = 0;
    const done = (left: boolean) => {
      try {
        resolve({ text: textOf(raw), left });
      } catch (error) {
        reject(error);
      }
    };
    const outgoing = request(`${url}/v1/chat/completions`, {
      agent,
      method: "POST",
      headers: { "content-type": "application/json" },
    });
    const leave = () => {
      outgoing.destroy();
      done(true);
    };
    outgoing.on("response", (response) => {
      if (response.statusCode !== 200) return reject(new Error(`status ${response.statusCode}`));
      response.setEncoding("utf8");
      response.on("data", (data) => {
        raw += data;
        if (++reads > leaveAfter) leave();
      });
      response.on("end", () => done(false));
      response.on("error", () => {});
    });
    outgoing.on("error", (error) => (reads > leaveAfter || leaveAfter === 0 ? undefined : reject(error)));
    outgoing.end(body);
    if (leaveAfter === 0) setTimeout(leave, n % 20);
  });
}

function textOf(raw: string): string {
  return raw
    .split("\n\n")
    .slice(0, -1)
    .filter((event) => event.startsWith("data: {"))
    .map((event) => {
      const { error, choices } = JSON.parse(event.slice(6));
      if (error) throw new Error(error.message);
      return choices[0]?.delta.content ?? "";
    })
    .join("");
}

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}
