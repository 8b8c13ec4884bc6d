import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AuditEntry } from "../../../src/gateway/audit/entry.js";
import { GuardProxy } from "../../../src/gateway/proxy.js";
import { ScriptedStream, scriptedGuard } from "../../gate/scripted.js";
import { scriptedUpstream, sse } from "../upstream.js";
import { anAudit } from "./audited.js";

/** With a space: a model may be named by any word. */
const PRIVATE = "PRIVATE words";
const RUNS = Number(process.env.FUZZ_RUNS ?? 150);

let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
beforeEach(async () => {
  upstream = await scriptedUpstream();
});
afterEach(async () => {
  await upstream.close();
  await expect.poll(() => ScriptedStream.open).toBe(0);
});

const word = fc.constantFrom(
  PRIVATE,
  `${PRIVATE} BAD BAD`,
  `so ${PRIVATE}`,
  "BAD",
  "",
  `${PRIVATE}\u2028"}\n{`,
);
const value = fc.oneof(
  word,
  fc.integer(),
  fc.boolean(),
  fc.constant(null),
  fc.array(word),
  fc.dictionary(word, word),
);
const message = fc.record(
  {
    role: fc.oneof({ weight: 8, arbitrary: fc.constantFrom("user", "assistant", "system") }, value),
    content: fc.oneof({ weight: 8, arbitrary: word }, value),
    name: value,
    tool_calls: value,
  },
  { requiredKeys: ["role", "content"] },
);
const request = fc.record(
  {
    messages: fc.oneof({ weight: 8, arbitrary: fc.array(message, { minLength: 1, maxLength: 3 }) }, value),
    model: fc.oneof(fc.constant("m"), value),
    stream: fc.boolean(),
    n: fc.oneof(fc.constantFrom(1, 2), value),
    [PRIVATE]: value,
    metadata: value,
  },
  { requiredKeys: ["messages", "stream"] },
);
const delta = fc.record(
  { content: word, reasoning: word, tool_calls: value, role: value, [PRIVATE]: value },
  { requiredKeys: [] },
);
const events = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc
        .record({
          index: fc.constantFrom(0, 1),
          delta,
          finish_reason: fc.constantFrom(null, "stop", PRIVATE),
        })
        .map((choice) => ({ choices: [choice] })),
    },
    value.map((error) => ({ error })),
    word,
  ),
  { maxLength: 5 },
);
const policy = fc.record(
  {
    action: fc.constantFrom("block" as const, "observe" as const),
    tools: fc.constantFrom("judge" as const, "pass" as const, "refuse" as const),
    unjudged: fc.constantFrom("refuse" as const, "pass" as const),
    failOpen: fc.boolean(),
  },
  { requiredKeys: [] },
);

test("whatever a client or a server says, no line holds any of it, and each choice has one end", async () => {
  const cases = fc.record({
    request,
    events,
    policy,
    status: fc.constantFrom(200, 200, 200, 400, 503),
    prompt: fc.constantFrom("Safe", "Unsafe", "Controversial"),
    failAt: fc.constantFrom(Number.POSITIVE_INFINITY, 2),
    path: fc.constantFrom(
      "/v1/chat/completions",
      "/v1/chat/completions",
      "/v1/messages",
      "/v1/PRIVATE",
      "/v1/moderations",
    ),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ request, events, policy, status, prompt, failAt, path }) => {
      upstream.answerWith(() => ({
        status,
        type: request.stream ? "text/event-stream" : "application/json",
        script: request.stream
          ? [...events, "[DONE]"].map((own) => sse(own))
          : [JSON.stringify(events[0] ?? PRIVATE)],
      }));
      const { audit, lines } = await anAudit();
      const { guard } = scriptedGuard({ prompt, failAt });
      let over = () => {};
      const ended = new Promise<void>((resolve) => {
        over = resolve;
      });
      const proxy = new GuardProxy(guard, { upstream: upstream.url, audit, policy, log: over });
      const answer = await proxy.fetch(
        new Request(`http://localhost${path}`, {
          method: "POST",
          headers: {
            "content-type": "application/json",
            authorization: PRIVATE,
            "x-request-id": `${PRIVATE} 1`,
          },
          body: JSON.stringify({ input: PRIVATE, ...request }),
        }),
      );
      await answer.text();
      await ended;
      const told = await lines();
      await audit.close();
      expect(JSON.stringify(told)).not.toContain("PRIVATE");
      const ends = told
        .filter(({ action }) => action !== "observed")
        .map(({ part, choice }) => `${partOf(part)} ${choice}`);
      expect(ends.length).toBeGreaterThan(0);
      expect(new Set(ends).size).toBe(ends.length);
    }),
    { numRuns: RUNS, ...(process.env.FUZZ_SEED && { seed: Number(process.env.FUZZ_SEED) }) },
  );
});

/** An answer has one end, whichever part of it that is in. */
const partOf = (part: AuditEntry["part"]) => (part === "tool_call" ? "response" : part);
