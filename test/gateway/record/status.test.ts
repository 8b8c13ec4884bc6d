import { Hono } from "hono";
import { expect, test } from "vitest";
import { Metrics } from "../../../src/gateway/record/metrics.js";
import { addStatus } from "../../../src/gateway/record/status.js";

const IDLE = { active: 0, waiting: 0, reusedTokens: 0, prefilledTokens: 0 };

test.each([
  ["has nothing to do", {}, 200, "ok"],
  ["has all slots taken, and many who wait", { load: { active: 4, waiting: 1000 } }, 200, "ok"],
  ["drains", { draining: true }, 503, "draining"],
  ["cannot write its audit", { audit: { unwritable: new Error("ENOSPC") } }, 503, "audit_unwritable"],
])("a server that %s hears, whether it takes requests or not", async (_, how, ready, status) => {
  const { load, draining = false, audit } = how as { load?: object; draining?: boolean; audit?: never };
  const guard = { load: { ...IDLE, ...load } };
  const app = new Hono();
  const metrics = new Metrics(guard, () => 0);
  addStatus(app, { guard, metrics, audit, isDraining: () => draining });
  const healthz = await app.request("/healthz");
  expect([healthz.status, await healthz.json()]).toMatchObject([ready, { status }]);
  const livez = await app.request("/livez");
  expect([livez.status, await livez.json()]).toEqual([200, { status: "ok" }]);
});
