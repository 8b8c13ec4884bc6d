import { readFile, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ClosedError, DeviceError } from "../../../src/errors.js";
import type { AuditEntry } from "../../../src/gateway/audit/entry.js";
import { AuditLog, type AuditLogOptions } from "../../../src/gateway/audit/log.js";
import { GuardProxy, type LogEntry, type ProxyOptions } from "../../../src/gateway/proxy.js";
import { ScriptedStream, scriptedGuard } from "../../gate/scripted.js";
import { temporaryFolder } from "../../support/model.js";
import { chunk, reply, scriptedUpstream, sse } from "../upstream.js";
import { anAudit, hashOf, KEY, linesOf } from "./audited.js";

let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
let audited: Awaited<ReturnType<typeof anAudit>>;
beforeEach(async () => {
  upstream = await scriptedUpstream();
});
afterEach(async () => {
  await upstream.close();
  await expect.poll(() => ScriptedStream.open).toBe(0);
  await audited.audit.close();
});

type Script = Parameters<typeof scriptedGuard>[0];

async function start(options: Partial<ProxyOptions> = {}, script: Script = {}, log: AuditLogOptions = {}) {
  audited = await anAudit(log);
  const { guard } = scriptedGuard(script);
  const entries: unknown[] = [];
  const proxy = new GuardProxy(guard, {
    upstream: upstream.url,
    audit: audited.audit,
    log: (entry) => entries.push(entry),
    ...options,
  });
  const ask = (body: object, path = "/v1/chat/completions", signal?: AbortSignal) => {
    const headers = { "content-type": "application/json", "x-request-id": "r1" };
    const init = { method: "POST", headers, body: JSON.stringify(body), signal };
    return proxy.fetch(new Request(`http://localhost${path}`, init)) as Promise<Response>;
  };
  /** The lines of a request, once it is over. */
  const lines = async (requests = 1): Promise<AuditEntry[]> => {
    await expect.poll(() => entries).toHaveLength(requests);
    return audited.lines();
  };
  return { proxy, ask, lines };
}

const messages = [{ role: "user", content: "Hi" }];
const whole = (content: string | null, more: object = {}) => ({
  choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content, ...more } }],
});
const short = ({ part, choice, action, error }: AuditEntry) => [part, choice, action, error];

describe("each decision is one line", () => {
  test("a prompt and an answer that pass", async () => {
    upstream.stream(...reply("so ", "far"));
    const { ask, lines } = await start();
    await (await ask({ model: "m", messages, stream: true })).text();
    const [prompt, answer] = await lines();
    expect(prompt).toMatchObject({
      ...{ requestId: "r1", route: "/chat/completions", model: "m", stream: true, policy: null },
      ...{ part: "prompt", choice: 0, action: "passed", risk: "Safe", riskProbability: 0.9, category: null },
      probabilities: { risk: { Safe: 0.9, Unsafe: 0.05, Controversial: 0.05 } },
      ...{ rule: null, hash: hashOf("Hi"), lastHash: hashOf("Hi") },
    });
    expect(answer).toMatchObject({ part: "response", action: "passed", tokens: 4, hash: hashOf("so far") });
    expect(await lines()).toHaveLength(2);
  });

  test("an answer that is stopped: which rule, where, and the hash of all that was judged", async () => {
    const policy = { thresholds: { Unsafe: 0.5 }, categories: { Violent: { threshold: 0.25 } } };
    for (const stream of [true, false]) {
      if (stream) upstream.stream(...reply("so BAD ", "BAD and on"));
      else upstream.json(whole("so BAD BAD and on"));
      const { ask, lines } = await start({ policy });
      await (await ask({ messages, stream })).text();
      const [, answer, ...rest] = await lines();
      expect(rest).toEqual([]);
      expect(answer).toMatchObject({
        ...{ part: "response", choice: 0, action: "stopped", error: null, stream },
        ...{ risk: "Unsafe", riskProbability: 0.9, category: "Violent", categoryProbability: 0.8 },
        probabilities: { category: { Violent: 0.8, PII: 0.2 } },
        ...{ index: 4, from: 3, span: { start: 2, end: 10 } },
        rule: { reading: "strict", threshold: 0.5, debounce: 2, action: "block", categoryThreshold: 0.25 },
        hash: hashOf("so BAD BAD"),
      });
    }
  });

  test("streamed first, what was released beyond the flag is not among what was judged", async () => {
    let judge = () => {};
    const judging = new Promise<void>((resolve) => {
      judge = resolve;
    });
    upstream.stream(...reply("so BAD BAD ", "and on ", "and on "));
    const { ask, lines } = await start({ mode: "stream-first" }, { beforePush: () => judging });
    const answer = await ask({ messages, stream: true });
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    let told = "";
    while (!told.includes("and on")) told += (await reader.read()).value;
    judge();
    while (!(await reader.read()).done);
    expect((await lines())[1]).toMatchObject({ action: "stopped", hash: hashOf("so BAD BAD") });
  });

  test("a prompt that is stopped, in the name of the rule that chose the policy", async () => {
    upstream.stream(...reply("so far"));
    const policies = { policies: [{ name: "school", when: { model: "m" }, policy: {} }] };
    const { ask, lines } = await start({ policies }, { prompt: "Unsafe" });
    await (await ask({ model: "m", messages: [{ role: "system", content: "Be good" }, ...messages] })).text();
    const told = await lines();
    expect(told.map(short)).toEqual([["prompt", 0, "stopped", null]]);
    expect(told[0]).toMatchObject({
      ...{ policy: "school", index: 3, rule: { reading: "strict", debounce: 1 } },
      ...{ hash: hashOf("Be good\nHi"), lastHash: hashOf("Hi") },
    });
  });

  test("a text in the model's place", async () => {
    upstream.stream(...reply("so BAD BAD"));
    const flagged = await start({ replacement: "Let us talk of something else." });
    await (await flagged.ask({ messages, stream: true })).text();
    expect((await flagged.lines()).map(short)[1]).toEqual(["response", 0, "replaced", null]);
    await audited.audit.close();
    const blocked = await start({ replacement: "Let us talk of something else." }, { prompt: "Unsafe" });
    await (await blocked.ask({ messages })).text();
    expect((await blocked.lines()).map(short)).toEqual([["prompt", 0, "replaced", null]]);
  });

  test("what is observed, beside what becomes of it", async () => {
    upstream.stream(...reply("so BAD BAD and BAD BAD on"));
    const { ask, lines } = await start({ policy: { action: "observe" } }, { prompt: "Unsafe" });
    await (await ask({ messages, stream: true })).text();
    const told = await lines();
    expect(told.map(short)).toEqual([
      ["prompt", 0, "observed", null],
      ["prompt", 0, "passed", null],
      ["response", 0, "observed", null],
      ["response", 0, "observed", null],
      ["response", 0, "passed", null],
    ]);
    expect(told[2].rule).toMatchObject({ action: "observe", debounce: 2 });
  });

  test.each([
    ["passes", " drei vier", "passed", "one two three drei vier"],
    ["is stopped again", " drei BAD BAD x y", "stopped", "one two three drei BAD BAD"],
    ["is not, as its server refuses", null, "stopped", "one two three BAD BAD"],
  ])(
    "an answer that is gone on with and %s: the hash of what its client has, not of what was dropped",
    async (_, more, action, judged) => {
      const texts = ["one two three BAD BAD x y z", more];
      for (const stream of [true, false]) {
        let asked = 0;
        upstream.answerWith(() => {
          const text = texts[asked++];
          if (text === null) return { status: 400, script: [] };
          return stream
            ? { script: reply(...(text.match(/\s*\S+/g) ?? [])).map(sse) }
            : { type: "application/json", script: [JSON.stringify(whole(text))] };
        });
        const regenerate = { buffer: 1, attempts: 1 };
        const { ask, lines } = await start(
          { mode: "regenerate", continue: "vllm", regenerate, batch: { tokens: 1, ms: 1 } },
          {},
          { text: true },
        );
        await (await ask({ messages, stream })).text();
        const [prompt, dropped, answer, ...others] = await lines();
        expect(others).toEqual([]);
        expect(prompt).toMatchObject({ attempt: null, intervention: null });
        expect(dropped).toMatchObject({
          ...{ part: "response", choice: 0, action: "dropped", attempt: 0, intervention: "resample" },
          ...{ risk: "Unsafe", category: "Violent", from: 5, index: 6, rule: { debounce: 2 }, tokens: 7 },
          ...{ span: { start: "one two three".length, end: "one two three BAD BAD".length } },
          hash: hashOf("one two three BAD BAD"),
        });
        expect(answer).toMatchObject({ part: "response", action, text: judged, hash: hashOf(judged) });
        expect(answer).toMatchObject({ attempt: more === null ? 0 : 1, intervention: null });
        expect(answer.error).toBe(more === null ? "continuation_refused" : null);
        await audited.audit.close();
      }
    },
  );

  test("a call of a tool that is stopped", async () => {
    const call = {
      id: "c",
      type: "function",
      function: { name: "find", arguments: '{"q":"a BAD BAD thing"}' },
    };
    upstream.json(whole("Wait.", { tool_calls: [call] }));
    const { ask, lines } = await start({ policy: { tools: "judge" } });
    await (await ask({ messages })).text();
    const [, called] = await lines();
    expect(short(called)).toEqual(["tool_call", 0, "stopped", null]);
    expect(called.hash).toBe(hashOf('Wait.find{"q":"a BAD BAD'));
    await audited.audit.close();
    const delta = (own: object) => chunk({ tool_calls: [{ index: 0, ...own }] });
    upstream.stream(
      chunk({ content: "Wait." }),
      delta({ id: "c", type: "function", function: { name: "find", arguments: "" } }),
      ...['{"q":"a B', "AD BAD thi", 'ng"}'].map((own) => delta({ function: { arguments: own } })),
      chunk({}, "tool_calls"),
      "[DONE]",
    );
    const streaming = await start({ policy: { tools: "judge" } });
    await (await streaming.ask({ messages, stream: true })).text();
    const [, streamed] = await streaming.lines();
    expect(short(streamed)).toEqual(["tool_call", 0, "stopped", null]);
    expect(streamed.hash).toBe(hashOf('Wait.find{"q":"a BAD BAD'));
    await audited.audit.close();
    upstream.json(whole("Wait.", { tool_calls: [call] }));
    const refusing = await start({ policy: { tools: "refuse" } });
    await (await refusing.ask({ messages })).text();
    expect((await refusing.lines()).map(short)[1]).toEqual(["response", 0, "refused", "tool_call_refused"]);
  });

  test("each of several choices", async () => {
    const events = ["so far ", "BAD BAD "].map((content, index) => chunk({ content }, null, index));
    upstream.stream(...events, chunk({}, "stop", 0), chunk({}, "stop", 1), "[DONE]");
    const { ask, lines } = await start();
    await (await ask({ messages, n: 2, stream: true })).text();
    const told = (await lines()).map(short);
    expect(told.slice(0, 2)).toEqual([0, 1].map((choice) => ["prompt", choice, "passed", null]));
    expect(told.slice(2)).toEqual([
      ["response", 0, "passed", null],
      ["response", 1, "stopped", null],
    ]);
  });

  test("each text to be moderated", async () => {
    const { ask, lines } = await start({}, ({ messages }) => ({
      prompt: messages?.[0].content === "BAD" ? "Unsafe" : "Safe",
    }));
    await (await ask({ input: ["Hi", "BAD"] }, "/v1/moderations")).text();
    const told = await lines();
    expect(told.map(short)).toEqual([
      ["input", 0, "passed", null],
      ["input", 1, "stopped", null],
    ]);
    expect(told[1].hash).toBe(hashOf("BAD"));
  });

  test.each<[string, object, string?]>([
    ["field_unjudged", { messages, extra: "x" }],
    ["path_refused", {}, "/v1/rerank"],
    ["too_many_choices", { messages, n: 100 }],
    ["messages_invalid", { messages: "Hi" }],
  ])("a request that is refused: %s", async (code, body, path) => {
    const { ask, lines } = await start();
    expect((await ask(body, path)).status).toBeLessThan(500);
    const told = await lines();
    expect(told).toHaveLength(1);
    expect(told[0].action).toBe("refused");
    expect(told[0].error).toBe(code);
  });

  test("a path that passes unjudged", async () => {
    upstream.json({ results: [] });
    const { ask, lines } = await start({ allowPaths: ["/v1/rerank"] });
    await (await ask({ query: "x" }, "/v1/rerank")).text();
    const told = await lines();
    expect(told.map(short)).toEqual([["request", null, "unjudged", null]]);
    expect(told[0].unjudged).toEqual({ path: 1 });
  });

  test("what goes on unjudged within a request and an answer", async () => {
    upstream.json({ ...whole("Fine."), extra: "x" });
    const { ask, lines } = await start({ policy: { unjudged: "pass" } });
    await (await ask({ messages, extra: "x" })).text();
    expect((await lines()).map(({ unjudged }) => unjudged)).toEqual([{ field: 1 }, { field: 1 }]);
  });

  test("a guard that fails: before the prompt's verdict, in the answer, and where the policy lets both go on", async () => {
    upstream.stream(...reply("so far ", "and on"));
    const failure = new DeviceError("DEVICE_FAILED", "gone");
    const early = await start({}, () => ({ promptAfter: Promise.reject(failure) }));
    await (await early.ask({ messages, stream: true })).text();
    expect((await early.lines()).map(short)).toEqual([["prompt", 0, "failed", "device_failed"]]);
    await audited.audit.close();
    const late = await start({}, { failAt: 2, failure });
    await (await late.ask({ messages, stream: true })).text();
    expect((await late.lines()).map(short)).toEqual([
      ["prompt", 0, "passed", null],
      ["response", 0, "failed", "device_failed"],
    ]);
    await audited.audit.close();
    const open = await start({ policy: { failOpen: true } }, () => ({
      promptAfter: Promise.reject(failure),
    }));
    await (await open.ask({ messages, stream: true })).text();
    const told = await open.lines();
    expect(told.map(short)).toEqual([
      ["prompt", 0, "failed_open", null],
      ["response", 0, "failed_open", "device_failed"],
    ]);
    expect(told[1].hash).toBe(hashOf("so far and on"));
  });

  test.each<[string, Script, unknown[]]>([
    ["unreachable", {}, ["response", 0, "failed", "upstream_unreachable"]],
    ["breaking off", {}, ["response", 0, "failed", "upstream_failed"]],
    ["refusing", {}, ["response", 0, "failed", "upstream_refused"]],
  ])("a server that fails: %s", async (how, script, expected) => {
    upstream.stream(chunk({ content: "so far" }));
    if (how === "refusing") upstream.json({ error: { message: "No.", code: "x" } }, 401);
    const { ask, lines } = await start(
      how === "unreachable" ? { upstream: "http://127.0.0.1:1" } : {},
      script,
    );
    await (await ask({ messages, stream: true })).text();
    const told = (await lines()).map(short);
    expect(told.at(-1)).toEqual(expected);
    expect(told).toHaveLength(2);
  });

  test("a client that leaves, and a request that takes too long", async () => {
    upstream.stream(chunk({ content: "so far and " }), Number.POSITIVE_INFINITY);
    const { ask, lines } = await start();
    const controller = new AbortController();
    const answer = await ask({ messages, stream: true }, undefined, controller.signal);
    await answer.body?.getReader().read();
    controller.abort();
    expect((await lines()).map(short)[1].slice(0, 3)).toEqual(["response", 0, "cancelled"]);
    await audited.audit.close();
    const late = await start({ timeout: 100 });
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const begun = await late.ask({ messages, stream: true });
    vi.advanceTimersByTime(100_000);
    vi.useRealTimers();
    await begun.text();
    expect((await late.lines()).map(short)[1]).toEqual(["response", 0, "failed", "timeout"]);
  });

  test("a proxy that shuts down while it answers", async () => {
    upstream.stream(chunk({ content: "so far and " }), Number.POSITIVE_INFINITY);
    const { proxy, ask, lines } = await start();
    const answer = await ask({ messages, stream: true });
    const reader = answer.body!.getReader();
    await reader.read();
    proxy.abort();
    while (!(await reader.read()).done);
    expect((await lines()).map(short)[1]).toEqual(["response", 0, "failed", "shutting_down"]);
  });
});

test("texts are told only where that is asked for, and are what the hashes are of", async () => {
  for (const text of [false, true]) {
    upstream.stream(...reply("so BAD BAD and on"));
    const { ask, lines } = await start({}, {}, { text });
    await (await ask({ messages, stream: true })).text();
    const told = await lines();
    expect(told.map((line) => line.text)).toEqual(text ? ["Hi", "so BAD BAD"] : [undefined, undefined]);
    if (text) for (const { hash, text } of told) expect(hash).toBe(hashOf(text as string));
    await audited.audit.close();
  }
});

test("without a key hashes are of one of the process's own, and say so", async () => {
  upstream.stream(...reply("so far"));
  const { ask, lines } = await start({}, {}, { key: undefined });
  await (await ask({ messages, stream: true })).text();
  const [{ keyId, hash }] = await lines();
  expect(keyId).toMatch(/^random-/);
  expect(hash).not.toBe(hashOf("Hi"));
});

test("a closed guard is told by its code", async () => {
  upstream.stream(...reply("so far"));
  const failure = new ClosedError("GUARD_CLOSED", "closed");
  const { ask, lines } = await start({}, () => ({ promptAfter: Promise.reject(failure) }));
  await (await ask({ messages, stream: true })).text();
  expect((await lines()).map(short)).toEqual([["prompt", 0, "failed", "guard_closed"]]);
});

describe.skipIf(process.platform !== "linux")("while it cannot be written", () => {
  test("requests are refused, /healthz and metrics say so, and what was under way is written later", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "audit.jsonl");
    await symlink("/dev/full", path);
    audited = await anAudit();
    const audit = await AuditLog.open(path, { key: KEY });
    upstream.stream(...reply("so far"));
    const { guard } = scriptedGuard();
    const log: LogEntry[] = [];
    const proxy = new GuardProxy(guard, { upstream: upstream.url, audit, log: (entry) => log.push(entry) });
    const get = async (path: string) => proxy.fetch(new Request(`http://localhost${path}`));
    const ask = async () =>
      proxy.fetch(
        new Request("http://localhost/v1/chat/completions", {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ messages, stream: true }),
        }),
      );
    await (await ask()).text();
    await expect.poll(() => audit.unwritable).not.toBeNull();
    await expect.poll(() => log).toHaveLength(1);
    const refused = await ask();
    expect(refused.status).toBe(503);
    expect(await refused.json()).toMatchObject({ error: { code: "audit_unwritable" } });
    expect(upstream.asked).toHaveLength(1);
    expect(log[1]).toMatchObject({ end: "failed", error: { code: "audit_unwritable" } });
    const health = await get("/healthz");
    expect([health.status, await health.json()]).toMatchObject([503, { status: "audit_unwritable" }]);
    const metrics = await (await get("/metrics")).text();
    expect(metrics).toMatch(/^qwen3guard_audit_failures_total 1$/m);
    expect(metrics).toMatch(/^qwen3guard_audit_waiting_lines 2$/m);

    await rm(path);
    audit.reopen();
    await expect.poll(() => audit.unwritable).toBeNull();
    expect((await get("/healthz")).status).toBe(200);
    await (await ask()).text();
    await expect.poll(() => log).toHaveLength(3);
    await audit.close();
    const lines = linesOf(await readFile(path, "utf8"));
    expect(lines.map(({ part }) => part)).toEqual(["prompt", "response", "prompt", "response"]);
  });
});
