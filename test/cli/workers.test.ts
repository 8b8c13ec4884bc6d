import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import OpenAI from "openai";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { scriptedUpstream, sse } from "../gateway/upstream.js";
import { MAIN, runCli, runHere } from "../support/cli.js";
import { MODEL_CACHE } from "../support/model.js";
import { smallGuard } from "../support/small-guard.js";

let cache: string;
let child: ChildProcess | undefined;
let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
let small: string[];
beforeAll(async () => {
  cache = MODEL_CACHE;
  small = await smallGuard();
});
beforeEach(async () => {
  upstream = await scriptedUpstream();
});
afterEach(async () => {
  child?.kill("SIGKILL");
  await upstream.close();
});

const delta = (content: string) => sse({ choices: [{ index: 0, delta: { content } }] });
const ending = [sse({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }), sse("[DONE]")];

/** A proxy of two workers, which are all there once it says where it listens. */
async function start(...options: string[]) {
  const proxy = ["proxy", "--upstream", upstream.url, "--port", "0", "--workers", "2"];
  const args = [MAIN, ...proxy, ...small, ...options];
  const started = spawn(process.execPath, args, {
    env: { ...process.env, NO_COLOR: "1", QWEN3GUARD_CACHE: cache },
    stdio: ["ignore", "pipe", "pipe"],
  });
  child = started;
  let said = "";
  let log = "";
  started.stderr.setEncoding("utf8").on("data", (text) => {
    log += text;
  });
  const ended = once(started, "close");
  started.stdout.setEncoding("utf8").on("data", (text) => {
    said += text;
  });
  await until(() => said.includes("\n") || started.exitCode !== null);
  const url = said.split(" ")[0];
  return {
    url,
    pid: started.pid as number,
    kill: (signal: NodeJS.Signals) => started.kill(signal),
    ended,
    entries: () => log.split("\n").flatMap((line) => (line.startsWith("{") ? [JSON.parse(line)] : [])),
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: "k" }),
    metric: async (line: RegExp) => Number(line.exec(await (await fetch(`${url}/metrics`)).text())?.[1]),
  };
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Processes that a process has started. */
async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  return text.trim().split(" ").filter(Boolean).map(Number);
}

/** Asks for an answer. Resolves once its first text is here, with a promise of all of it. */
async function openStream(client: OpenAI): Promise<{ text: Promise<string> }> {
  const stream = await client.chat.completions.create({
    model: "m",
    stream: true,
    messages: [{ role: "user", content: "How do I bake bread?" }],
  });
  const chunks = stream[Symbol.asyncIterator]();
  let text = "";
  const read = async () => {
    const { value, done } = await chunks.next();
    text += value?.choices?.[0]?.delta?.content ?? "";
    return done;
  };
  while (text === "") await read();
  const rest = (async () => {
    while (!(await read()));
    return text;
  })();
  rest.catch(() => {});
  return { text: rest };
}

/** The upstream goes on with each answer until `release` is called. */
function answerUntilReleased() {
  let over = false;
  upstream.answerWith(() => ({
    script: (function* () {
      yield* ["Knead ", "the ", "dough, "].map(delta);
      while (!over) yield 10;
      yield* [delta("then let it rest."), ...ending];
    })(),
  }));
  return () => {
    over = true;
  };
}

/** Asks for an answer on a connection of its own; tells how it ended: whole, or with which error. */
async function endOfStream(url: string): Promise<string> {
  const headers = { "content-type": "application/json" };
  const asked = request(`${url}/v1/chat/completions`, { method: "POST", agent: false, headers });
  const messages = [{ role: "user", content: "How do I bake bread?" }];
  asked.end(JSON.stringify({ model: "m", stream: true, messages }));
  try {
    const [answer]: IncomingMessage[] = (await once(asked, "response")) as [IncomingMessage];
    const said = (await text(answer)).trimEnd();
    const last = answer.statusCode === 200 ? said.slice(said.lastIndexOf("data: ") + 6) : said;
    if (last !== "[DONE]") return JSON.parse(last).error.code;
    return said.includes('"finish_reason":"stop"') ? "whole" : said;
  } catch (error) {
    return `broken off: ${error}`;
  }
}

describe.skipIf(process.platform !== "linux")("proxy --workers", () => {
  test("workers that are killed at random under load lose their own streams, each with an error; all else goes on", async () => {
    const proxy = await start();
    let random = 1;
    for (let kills = 1; kills <= 4; kills++) {
      const release = answerUntilReleased();
      const before = Array.from({ length: 6 }, () => endOfStream(proxy.url));
      await until(async () => (await proxy.metric(/^qwen3guard_streams (\d+)/m)) === 6);
      random = (Math.imul(random, 1_103_515_245) + 12_345) & 0x7fffffff;
      const workers = await childrenOf(proxy.pid);
      const killed = workers[(random >> 16) % 2];
      process.kill(killed, "SIGKILL");
      const after = Array.from({ length: 6 }, () => endOfStream(proxy.url));
      // One that comes before the death is known is told of it.
      const told = Promise.all(after);
      release();
      const ends = await Promise.all(before);
      // Each worker had a half of them, but for a connection that asked for metrics.
      const whole = ends.filter((end) => end === "whole").length;
      expect([2, 3, 4]).toContain(whole);
      expect(ends.filter((end) => end === "worker_lost")).toHaveLength(6 - whole);
      expect((await told).filter((end) => end !== "whole" && end !== "worker_lost")).toEqual([]);
      await until(() => proxy.entries().filter(({ event }) => event === "worker_started").length === kills);
      expect(await childrenOf(proxy.pid)).toHaveLength(2);
      expect(await endOfStream(proxy.url)).toBe("whole");
    }
  });

  test("a worker that is killed ends its own streams with an error event, is replaced, and its counts stay", async () => {
    const requests = /^qwen3guard_requests_total\{.*end="passed".*\} (\d+)/m;
    let release = answerUntilReleased();
    release();
    const proxy = await start();
    const [killed, other] = await childrenOf(proxy.pid);
    await Promise.all([1, 2, 3].map(async () => (await openStream(proxy.client)).text));
    await until(async () => (await proxy.metric(requests)) === 3);

    release = answerUntilReleased();
    const streams = [await openStream(proxy.client), await openStream(proxy.client)];
    process.kill(killed, "SIGKILL");
    const first = await Promise.any(
      streams.map(({ text }) =>
        text.then(
          () => null,
          (error) => error,
        ),
      ),
    );
    expect(first).toMatchObject({ error: { code: "worker_lost" } });
    const third = await openStream(proxy.client);
    release();
    const ends = await Promise.allSettled([...streams, third].map(({ text }) => text));
    expect(ends.map(({ status }) => status).sort()).toEqual(["fulfilled", "fulfilled", "rejected"]);

    await until(() => proxy.entries().some(({ event }) => event === "worker_started"));
    const now = await childrenOf(proxy.pid);
    expect(now).toHaveLength(2);
    expect(now).toContain(other);
    await until(async () => (await proxy.metric(requests)) === 5);
  });

  test("SIGTERM lets streams under way end, and takes no more", async () => {
    const release = answerUntilReleased();
    const proxy = await start();
    const stream = await openStream(proxy.client);
    const silent = connect(Number(new URL(proxy.url).port), "127.0.0.1");
    await once(silent, "connect");
    const late = text(silent.end("GET /v1/nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    proxy.kill("SIGTERM");
    expect(await late).toMatch(/^HTTP\/1\.1 404 [\s\S]*path_refused/);
    await until(() =>
      fetch(`${proxy.url}/healthz`).then(
        ({ status }) => status === 503,
        () => true,
      ),
    );
    release();
    expect(await stream.text).toContain("let it rest");
    expect((await proxy.ended)[0]).toBe(0);
  });

  test("a worker that cannot start ends the command, and has said why", async () => {
    const { code, stderr } = await runCli(
      ["proxy", "--upstream", "http://127.0.0.1:9", "--port", "0", "--workers", "2", "--model", "/nowhere"],
      { env: { QWEN3GUARD_CACHE: cache } },
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/\[MODEL_UNKNOWN\][\s\S]*\[WORKER_FAILED\]/);
  });
});

test.each([["0"], ["many"], ["1.5"]])("2: --workers %s", async (count) => {
  const args = ["proxy", "--upstream", "http://127.0.0.1:9", "--workers", count];
  expect((await runHere(args)).code).toBe(2);
});
