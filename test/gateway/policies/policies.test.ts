import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { PolicyTable } from "../../../src/gateway/policies/policy-table.js";
import { LABELS, policyOf } from "../../gate/scripted.js";
import { serving } from "../serving.js";
import { chunk, sse } from "../upstream.js";

const proxied = serving();
const keyHash = `sha256:${createHash("sha256").update("sk-school").digest("hex")}`;
const observe = { action: "observe" };
const data = {
  policies: [
    { name: "by-key", when: { key: keyHash }, policy: { debounce: 7 } },
    { name: "by-model", when: { model: ["kids-*", "tiny"] }, policy: { debounce: 6 } },
    { name: "by-path", when: { path: "*/v1/messages" }, policy: { debounce: 5 } },
    { name: "by-header", when: { header: { "x-tenant": "school-*" }, model: "m" }, policy: { debounce: 4 } },
  ],
};
const table = new PolicyTable(data, LABELS, policyOf());
const chosen = (asked: { path?: string; model?: unknown; headers?: Record<string, string> }) =>
  table.choose({ path: "/v1/chat/completions", model: "m", ...asked, headers: new Headers(asked.headers) });

describe("the first rule that matches counts", () => {
  test.each<[string | null, Parameters<typeof chosen>[0]]>([
    [null, {}],
    ["by-key", { headers: { authorization: "Bearer sk-school" }, model: "tiny" }],
    ["by-key", { headers: { "x-api-key": "sk-school" } }],
    ["by-key", { headers: { authorization: "bearer\tsk-school" } }],
    ["by-key", { headers: { authorization: "Token  sk-school" } }],
    ["by-key", { headers: { authorization: "sk-school" } }],
    ["by-key", { headers: { authorization: "Bearer sk-other, Bearer sk-school" } }],
    ["by-key", { headers: { authorization: "Bearer sk-other", "api-key": "sk-school" } }],
    [null, { headers: { authorization: "Bearer sk-school2" } }],
    [null, { headers: { authorization: "Bearer sk-other" } }],
    ["by-model", { model: "kids-large" }],
    ["by-model", { model: " tiny\n" }],
    ["by-model", { model: "KIDS-large", path: "/v1/messages" }],
    [null, { model: "not-kids-large" }],
    [null, { model: ["tiny"] }],
    ["by-path", { path: "/anthropic/v1/messages" }],
    ["by-header", { headers: { "X-Tenant": "school-3" } }],
    [null, { headers: { "x-tenant": "school-3" }, model: "n" }],
    [null, { headers: { "x-tenant": "a school-3" } }],
  ])("%s for %j", (name, asked) => {
    expect(chosen(asked).name).toBe(name);
    const debounce = { "by-key": 7, "by-model": 6, "by-path": 5, "by-header": 4 }[name ?? ""] ?? 2;
    expect(chosen(asked).policy.response.debounce).toBe(debounce);
  });
});

describe("what is no file of policies", () => {
  const rule = (fields: object) => ({ policies: [{ name: "a", policy: {}, ...fields }] });
  test.each<[unknown, RegExp]>([
    [[], /must be \{ "policies"/],
    [{ policies: {}, more: 1 }, /must be \{ "policies"/],
    [rule({ name: "a b" }), /policies\[0\].name must be a word/],
    [rule({ extra: 1 }), /policies\[0\] has no "extra". It takes: name, when, policy, override/],
    [rule({ when: { user: "x" } }), /policies\[0\].when has no "user"/],
    [rule({ when: { model: [] } }), /when.model must be a text or a list/],
    [rule({ when: { model: 5 } }), /when.model must be a text or a list/],
    [rule({ when: { key: "sk-secret" } }), /when.key must be the key's hash/],
    [rule({ when: { header: { a: "" } } }), /when.header\["a"\] must be a text/],
    [rule({ override: ["tools"] }), /policies\[0\] \(a\): override must be \{ "stricter"/],
    [rule({ override: { milder: ["tools"] } }), /override must be \{ "stricter"/],
    [rule({ override: { any: ["mode"] } }), /override.any must be a list of a policy's fields: reading, /],
    [rule({ policy: { action: "stop" } }), /policies\[0\] \(a\): action is "stop"/],
    [{ policies: [rule({}).policies[0], rule({}).policies[0]] }, /two policies are named "a"/],
  ])("%j", (wrong, message) => {
    expect(() => new PolicyTable(wrong, LABELS, policyOf())).toThrow(message);
  });

  test("says nothing of a key that stands in it", () => {
    expect(() => new PolicyTable(rule({ when: { key: "sk-secret" } }), LABELS, policyOf())).not.toThrow(
      /sk-secret/,
    );
  });
});

const ask = (url: string, model: string) =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, messages: [{ role: "user", content: "Hi" }], stream: true }),
  });
const flagged = () => ({
  script: [sse(chunk({ content: "so BAD BAD far" })), 50, sse(chunk({}, "stop")), sse("[DONE]")],
});

test("each request goes by its own, and the log says by which", async () => {
  proxied.upstream.answerWith(flagged);
  const policies = { policies: [{ name: "open", when: { model: "adult" }, policy: observe }] };
  const { url } = await proxied.start({ policies });
  expect(await (await ask(url, "adult")).text()).not.toContain("content_filter");
  expect(await (await ask(url, "other")).text()).toContain("content_filter");
  await expect.poll(() => proxied.log).toHaveLength(2);
  expect(proxied.log.map(({ policy }) => policy)).toEqual(["open", null]);
});

test("others take their place for what comes next, and a stream that is under way keeps its own", async () => {
  proxied.upstream.answerWith(flagged);
  const { url, proxy } = await proxied.start();
  const before = await ask(url, "m");
  proxy.usePolicies({ policies: [{ name: "all", policy: observe }] });
  const after = await ask(url, "m");
  expect(await before.text()).toContain("content_filter");
  expect(await after.text()).not.toContain("content_filter");
  expect(() => proxy.usePolicies({ policies: 5 })).toThrow(/policies/);
  expect(await (await ask(url, "m")).text()).not.toContain("content_filter");
});
