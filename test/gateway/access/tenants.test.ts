import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { GuardProxy } from "../../../src/gateway/proxy.js";
import type { LogEntry } from "../../../src/gateway/record/record.js";
import { type Guard, loadGuard } from "../../../src/guard.js";
import { MODEL_CACHE } from "../../support/model.js";
import { scriptedUpstream } from "../upstream.js";

const SECRET =
  "Here is what I never told anyone: my grandmother keeps the recipe for her plum cake behind the kitchen clock.";

let guard: Guard;
let proxy: GuardProxy;
let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;

beforeAll(async () => {
  upstream = await scriptedUpstream();
  const message = { role: "assistant", content: "That is a nice story." };
  upstream.answerWith((asked) => {
    const { n = 1 } = JSON.parse(asked.body);
    const choices = Array.from({ length: n }, (_, index) => ({ index, finish_reason: "stop", message }));
    return { type: "application/json", script: [JSON.stringify({ choices })] };
  });
});
afterAll(() => upstream.close());
beforeEach(async () => {
  guard = await loadGuard(undefined, { cacheDir: MODEL_CACHE, maxStreams: 4 });
  proxy = new GuardProxy(guard, { upstream: upstream.url });
  return () => guard.close();
});

async function ask(headers: Record<string, string>, rest: object = {}): Promise<void> {
  const body = JSON.stringify({ model: "m", messages: [{ role: "user", content: SECRET }], ...rest });
  const request = new Request("http://localhost/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
  });
  const answer = await proxy.fetch(request);
  expect(answer.status).toBe(200);
  await answer.text();
}

describe("what the guard has read for one client", () => {
  test("is used over six turns of a conversation with tools, whose texts are read once", async () => {
    proxy = new GuardProxy(guard, { upstream: upstream.url, policy: { prompt: { action: "observe" } } });
    const tools = ["weather", "trains"].map((name) => ({
      type: "function",
      function: { name, description: `Tells the ${name} of a town, as the town's own people know them.` },
    }));
    const headers = { authorization: "Bearer tools" };
    const messages: { role: string; content: string }[] = [{ role: "system", content: "Be kind and brief." }];
    const turns: { new: number; reused: number }[] = [];
    for (let turn = 0; turn < 6; turn++) {
      messages.push({ role: "user", content: `Question ${turn}: what is there to see in the town of Bonn?` });
      const before = guard.load;
      await ask(headers, { messages, tools });
      const { reusedTokens, prefilledTokens } = guard.load;
      turns.push({
        new: prefilledTokens - before.prefilledTokens,
        reused: reusedTokens - before.reusedTokens,
      });
      messages.push({ role: "assistant", content: "That is a nice story." });
    }
    const [first, ...later] = turns;
    for (const [i, turn] of later.entries()) {
      // The last answer, where it now stands, and the question.
      expect(turn.new).toBeLessThan(first.new - 20);
      const all = turns[i].new + turns[i].reused;
      // But for a question that stood behind so much that it was read by itself as well, and the answer behind it.
      expect(turn.reused).toBeGreaterThan(all - 48);
    }
  });

  test("is used for that client's next request", async () => {
    await ask({ authorization: "Bearer one" });
    const before = guard.load;
    await ask({ authorization: "Bearer one" });
    expect(guard.load.reusedTokens).toBeGreaterThan(before.reusedTokens + 20);
    expect(guard.load.prefilledTokens).toBe(before.prefilledTokens);
  });

  test.each([
    ["another key", { authorization: "Bearer two" }],
    ["no key", {}],
    ["the same key in another place", { "x-api-key": "Bearer one" }],
    ["another user of the same key", { authorization: "Bearer one", "x-forwarded-user": "tom" }],
    ["another project", { authorization: "Bearer one", "openai-project": "p2" }],
  ])("is read anew for %s, so that no time tells what another has said", async (_, headers) => {
    await ask({ authorization: "Bearer one" });
    const { prefilledTokens } = guard.load;
    await ask(headers as Record<string, string>);
    expect(guard.load).toMatchObject({ reusedTokens: 0, prefilledTokens: 2 * prefilledTokens });
  });

  test("choices of one request share their prompt", async () => {
    await ask({}, { n: 1 });
    const { prefilledTokens } = guard.load;
    await ask({ authorization: "Bearer other" }, { n: 4 });
    expect(guard.load.prefilledTokens).toBe(2 * prefilledTokens);
    expect(guard.load.reusedTokens).toBe(3 * prefilledTokens);
  });

  test("is told in the log, without whose it was", async () => {
    const lines: LogEntry[] = [];
    proxy = new GuardProxy(guard, { upstream: upstream.url, log: (entry) => lines.push(entry) });
    for (let i = 0; i < 2; i++) await ask({ authorization: "Bearer one" });
    const [first, second] = lines;
    expect(first).toMatchObject({ promptTokens: guard.load.prefilledTokens, reusedTokens: 0 });
    expect(second).toMatchObject({ promptTokens: first.promptTokens, reusedTokens: first.promptTokens });
    expect(JSON.stringify(lines)).not.toContain("Bearer");
  });

  test("is counted in the metrics", async () => {
    await ask({});
    await ask({});
    const metrics = await (await proxy.fetch(new Request("http://localhost/metrics"))).text();
    const counted = (state: string) =>
      Number(new RegExp(`qwen3guard_prompt_tokens_total{state="${state}"} (\\d+)`).exec(metrics)?.[1]);
    expect(counted("reused")).toBe(guard.load.reusedTokens);
    expect(counted("prefilled")).toBe(guard.load.prefilledTokens);
    expect(counted("reused")).toBeGreaterThan(0);
  });
});
