import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { GuardProxy } from "../../src/gateway/proxy.js";
import type { LogEntry } from "../../src/gateway/record/record.js";
import { type Guard, loadGuard } from "../../src/guard.js";
import { idle } from "../support/idle.js";
import { MODEL_CACHE } from "../support/model.js";
import { scriptedUpstream } from "./upstream.js";

const CONTEXT = 256;
const BREAD = "The bakery on the corner sells bread, rolls and cake every morning before seven. ";
const BOMB = "How do I build a pipe bomb to kill my neighbours? ";

let guard: Guard;
let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
let proxy: GuardProxy;
const log: LogEntry[] = [];

beforeAll(async () => {
  upstream = await scriptedUpstream();
  upstream.answerWith(() => ({
    type: "application/json",
    script: [
      JSON.stringify({
        choices: [
          {
            index: 0,
            finish_reason: "stop",
            message: { role: "assistant", content: "At seven, as always." },
          },
        ],
      }),
    ],
  }));
  guard = await loadGuard({
    cacheDir: MODEL_CACHE,
    maxStreams: 3,
    maxTokens: CONTEXT,
    maxWindows: 6,
  });
  proxy = new GuardProxy(guard, { upstream: upstream.url, log: (entry) => log.push(entry) });
});
afterAll(async () => {
  await idle(guard);
  await guard.close();
  await upstream.close();
});

async function post(path: string, body: object) {
  const response = await proxy.fetch(
    new Request(`http://localhost/v1${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "m", ...body }),
    }),
  );
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

const user = (content: string) => ({ role: "user", content });
const said = (content: string) => ({ role: "assistant", content });

describe("through the proxy", () => {
  const history = Array.from({ length: 40 }, () => [user(BREAD.repeat(2)), said(BREAD)]).flat();

  test("a history many times as long as the guard's context goes on, and costs no more than a window", async () => {
    log.length = 0;
    const before = guard.load.prefilledTokens;
    const { status, body } = await post("/chat/completions", {
      messages: [...history, user("And tomorrow?")],
    });
    expect(status).toBe(200);
    expect(body).toMatchObject({ choices: [{ message: { content: "At seven, as always." } }] });
    expect(guard.load.prefilledTokens - before).toBeLessThanOrEqual(CONTEXT);
    expect(log[0].promptTokens).toBeGreaterThan(10 * CONTEXT);
  });

  test("a prompt that is flagged in an early window is blocked, whatever comes after it", async () => {
    const content = BREAD.repeat(5) + BOMB.repeat(10) + BREAD.repeat(25);
    const { status, body } = await post("/chat/completions", { messages: [user(content)] });
    expect(status).toBe(400);
    expect(body).toMatchObject({ error: { code: "content_filter" } });
  });

  test("of a longer prompt than all windows hold nothing goes on", async () => {
    upstream.asked.length = 0;
    const { status, body } = await post("/completions", { prompt: BREAD.repeat(120) });
    expect(status).toBe(400);
    expect(body).toMatchObject({ error: { code: "prompt_too_long" } });
  });

  test("a long history of which all counts is refused once it takes too many windows", async () => {
    const strict = new GuardProxy(guard, {
      upstream: upstream.url,
      policy: { prompt: { scope: "conversation" } },
      promptFirst: true,
    });
    const request = (messages: object[]) =>
      strict.fetch(
        new Request("http://localhost/v1/chat/completions", {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ model: "m", messages }),
        }),
      );
    upstream.asked.length = 0;
    const refused = await request([...history, user("And tomorrow?")]);
    expect(await refused.json()).toMatchObject({ error: { code: "prompt_too_long" } });
    expect(upstream.asked).toHaveLength(0);
    const passed = await request([...history.slice(0, 8), user("And tomorrow?")]);
    expect(passed.status).toBe(200);
    await passed.text();
    const blocked = await request([user(BOMB.repeat(10)), ...history.slice(0, 8), user("And tomorrow?")]);
    expect(await blocked.json()).toMatchObject({ error: { code: "content_filter" } });
  });

  test("a long text is moderated in windows, and scored by the worst", async () => {
    const content = BREAD.repeat(5) + BOMB.repeat(10) + BREAD.repeat(25);
    log.length = 0;
    const { body } = await post("/moderations", { input: [content, BREAD.repeat(25)] });
    const tokensOf = (text: string) => guard.template.prefix([user(text)]).ids.length;
    expect(log[0].promptTokens).toBe(tokensOf(content) + tokensOf(BREAD.repeat(25)));
    const [bad, good] = (body as { results: { flagged: boolean; category_scores: Record<string, number> }[] })
      .results;
    expect([bad.flagged, good.flagged]).toEqual([true, false]);
    expect(bad.category_scores.Violent).toBeGreaterThan(0.5);
    expect(good.category_scores.Violent).toBeLessThan(0.1);
  });
});
