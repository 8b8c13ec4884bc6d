import type { Env, Hono } from "hono";
import type { AuditLog } from "../audit/log.js";
import type { Metrics } from "./metrics.js";

interface Served {
  guard: { readonly load: { active: number; waiting: number } };
  metrics: Metrics;
  /** What /metrics says. Default: this process's own. */
  pooled?: () => Promise<string>;
  audit?: AuditLog;
  isDraining: () => boolean;
}

/** Adds what tells how a server is: /livez, whether it hears at all; /healthz, whether it takes requests; /metrics. */
export function addStatus<E extends Env>(app: Hono<E>, served: Served): void {
  const { guard, metrics, pooled, audit, isDraining } = served;
  // Who restarts what hangs asks here: neither much to do, nor an end that has begun, nor a disk that is full is mended by that.
  app.get("/livez", (c) => c.json({ status: "ok" }));
  app.get("/healthz", (c) => {
    const { active, waiting } = guard.load;
    const status = isDraining() ? "draining" : audit?.unwritable ? "audit_unwritable" : "ok";
    return c.json({ status, active, waiting }, status === "ok" ? 200 : 503);
  });
  app.get("/metrics", async (c) => {
    const { registry } = metrics;
    const text = await (pooled?.() ?? registry.metrics());
    return c.body(text, 200, { "content-type": registry.contentType });
  });
}
