import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { POLICY_HEADER } from "../../../src/gateway/policies/policy-override.js";
import { PolicyTable } from "../../../src/gateway/policies/policy-table.js";
import { type PolicyData, resolvePolicy } from "../../../src/moderation/policy.js";
import { rulePrompt, ruleResponse } from "../../../src/moderation/ruling.js";
import { isAsStrict } from "../../../src/moderation/strictness.js";
import { LABELS, policyOf } from "../../gate/scripted.js";
import { serving } from "../serving.js";
import { chunk, sse } from "../upstream.js";

const ALL = ["reading", "action", "debounce", "categories", "prompt", "response", "tools", "failOpen"];
const SOME: PolicyData = { reading: "loose", debounce: 3, tools: "judge", categories: { PII: "observe" } };

function chosen(asked: object | string, override?: object, policy: object = SOME) {
  const table = new PolicyTable({ policies: [{ name: "school", policy, override }] }, LABELS, policyOf());
  const header = typeof asked === "string" ? asked : JSON.stringify(asked);
  return table.choose({ path: "/", model: "m", headers: new Headers({ [POLICY_HEADER]: header }) });
}

describe("what a request may set of its policy", () => {
  test.each<[PolicyData, keyof PolicyData]>([
    [{ reading: "strict" }, "reading"],
    [{ debounce: 2 }, "debounce"],
    [{ tools: "refuse" }, "tools"],
    [{ categories: { PII: "block" } }, "categories"],
    [{ prompt: { scope: "conversation" } }, "prompt"],
    [{ response: { refusal: "block" } }, "response"],
  ])("%j, where it may be stricter", (asked, field) => {
    const { name, policy } = chosen(asked, { stricter: [field] });
    expect(name).toBe(`school+${field}`);
    expect(policy).toEqual(resolvePolicy({ ...SOME, ...asked }, LABELS));
    expect(() => chosen(asked, { stricter: ALL.filter((other) => other !== field) })).toThrow(
      expect.objectContaining({ status: 403, code: "override_refused" }),
    );
    expect(() => chosen(asked)).toThrow(expect.objectContaining({ code: "override_refused" }));
  });

  test.each<[PolicyData]>([
    [{ action: "observe" }],
    [{ debounce: 4 }],
    [{ tools: "pass" }],
    [{ categories: { PII: "ignore" } }],
    [{ categories: { Violent: { action: "block", threshold: 0.9 } } }],
    [{ response: { reading: "loose", action: "observe" } }],
    [{ failOpen: true }],
    // It may count less than what is the most likely.
    [{ prompt: { thresholds: { Unsafe: 0.2 } } }],
  ])("%j is milder, and counts only where anything may be asked for", (asked) => {
    expect(() => chosen(asked, { stricter: ALL })).toThrow(
      expect.objectContaining({ status: 403, code: "override_refused" }),
    );
    expect(chosen(asked, { any: ALL }).policy).toEqual(
      resolvePolicy({ ...SOME, ...asked, categories: { ...SOME.categories, ...asked.categories } }, LABELS),
    );
  });

  test("goes beside what stands in the same field, and does not widen what is asked for in another", () => {
    const policy = { prompt: { thresholds: { Unsafe: 0.9 } }, tools: "judge" };
    const { policy: found } = chosen({ prompt: { scope: "conversation" } }, { stricter: ["prompt"] }, policy);
    expect(found.prompt).toMatchObject({ scope: "conversation", risks: [{ threshold: 0.9 }, {}] });
    const both = { stricter: ["tools"], any: ["debounce"] };
    expect(chosen({ tools: "refuse", debounce: 9 }, both).policy).toMatchObject({
      tools: "refuse",
      response: { debounce: 9 },
    });
    expect(() => chosen({ tools: "pass", debounce: 9 }, both)).toThrow(/asks for what/);
  });

  test.each(["", "strict", "[]", "null", '{"reading":"strict"', `{"replacement":"${"a".repeat(5000)}"}`])(
    "is no policy: %.30s",
    (header) => {
      expect(() => chosen(header, { any: ALL })).toThrow(
        expect.objectContaining({ status: 400, code: "policy_invalid" }),
      );
    },
  );

  test("that no policy takes is refused with a policy's own words, for the client alone", () => {
    let refused: { message?: string; body?: { error: { message: string } } } = {};
    try {
      chosen({ reading: "private words" }, { any: ALL });
    } catch (error) {
      refused = error as typeof refused;
    }
    expect(refused.body?.error.message).toMatch(/reading is "private words"/);
    expect(refused.message).not.toMatch(/private/);
  });
});

describe("a policy that is as strict as another", () => {
  const rules = {
    reading: fc.constantFrom("strict", "loose"),
    action: fc.constantFrom("ignore", "observe", "block"),
    threshold: fc.constantFrom(0.2, 0.6),
    thresholds: fc.record({ Unsafe: fc.constantFrom(0.3, 0.7) }, { requiredKeys: [] }),
    categories: fc.record(
      { Violent: fc.constantFrom("ignore", "block", { threshold: 0.5 }), PII: fc.constant("observe") },
      { requiredKeys: [] },
    ),
  };
  const policies = fc.record({ ...rules, debounce: fc.integer({ min: 1, max: 3 }) }, { requiredKeys: [] });
  const verdicts = fc.array(
    fc.tuple(fc.nat(10), fc.nat(10), fc.nat(10), fc.nat(LABELS.responseCategory.length - 1)),
    { minLength: 1, maxLength: 6 },
  );

  test("stops all that the other stops", () => {
    fc.assert(
      fc.property(policies, policies, verdicts, (one, other, tokens) => {
        const [policy, than] = [one, other].map((data) => resolvePolicy(data, LABELS));
        fc.pre(isAsStrict(policy, than));
        const judged = tokens.map(([a, b, c, category], index) => {
          const risk = [a, b, c].map((share) => (share + 0.1) / (a + b + c + 0.3));
          const top = risk.indexOf(Math.max(...risk));
          const probabilities = {
            risk,
            category: LABELS.responseCategory.map((_, i) => (i === category ? 0.6 : 0.05)),
          };
          return { index, risk: LABELS.responseRisk[top], probabilities };
        });
        if (ruleResponse(judged, than).violation)
          expect(ruleResponse(judged, policy).violation).not.toBeNull();
        if (rulePrompt(judged[0], than).violation) {
          expect(rulePrompt(judged[0], policy).violation).not.toBeNull();
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("is each as itself", () => {
    fc.assert(
      fc.property(policies, (data) => {
        const policy = resolvePolicy(data, LABELS);
        expect(isAsStrict(policy, policy)).toBe(true);
      }),
    );
  });
});

const proxied = serving();

test("through the proxy: it counts, is written down, and stays there", async () => {
  proxied.upstream.answerWith(() => ({
    script: [sse(chunk({ content: "so BAD BAD far" })), 50, sse(chunk({}, "stop")), sse("[DONE]")],
  }));
  const policies = {
    policies: [
      {
        name: "own",
        when: { model: "m" },
        policy: { action: "observe" },
        override: { stricter: ["action"] },
      },
    ],
  };
  const { url } = await proxied.start({ policies, allowPaths: ["/v1/files"] });
  const ask = (model: string, asked?: object) =>
    fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(asked && { "X-Qwen3Guard-Policy": JSON.stringify(asked) }),
      },
      body: JSON.stringify({ model, messages: [{ role: "user", content: "Hi" }], stream: true }),
    });
  expect(await (await ask("m")).text()).not.toContain("content_filter");
  expect(await (await ask("m", { action: "block" })).text()).toContain("content_filter");
  for (const [model, asked, status, code] of [
    ["m", { action: "ignore" }, 403, "override_refused"],
    ["other", { action: "block" }, 403, "override_refused"],
    ["m", { actoin: "block" }, 403, "override_refused"],
  ] as const) {
    const refused = await ask(model, asked);
    expect(refused.status).toBe(status);
    expect(await refused.json()).toMatchObject({ error: { code } });
  }
  await fetch(`${url}/v1/files`, { headers: { [POLICY_HEADER]: "{}" } }).then((answer) => answer.text());
  await expect.poll(() => proxied.log).toHaveLength(6);
  expect(proxied.log.map(({ policy }) => policy).slice(0, 2)).toEqual(["own", "own+action"]);
  expect(proxied.upstream.asked).toHaveLength(3);
  for (const { headers } of proxied.upstream.asked) expect(headers).not.toHaveProperty(POLICY_HEADER);
});
