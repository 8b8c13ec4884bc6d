import { randomBytes, timingSafeEqual } from "node:crypto";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { stream } from "hono/streaming";
import { isLoopbackName } from "../gateway/access/loopback.js";
import type { Guard } from "../guard.js";
import { DEFAULT_POLICY } from "../moderation/policy.js";
import { EXAMPLES } from "./examples.js";
import { page } from "./page.js";
import type { GuardInfo, GuardLoad, RunEvent } from "./protocol.js";
import { run } from "./run.js";
import { parseRun } from "./run-request.js";

const MOST_BYTES = 2 ** 20;

/** The playground's page and what it asks for. For this machine alone: every request needs the address's token. */
export class PlaygroundServer {
  readonly token = randomBytes(16).toString("hex");
  readonly #app = new Hono();
  readonly #underway = new Set<AbortController>();

  /** @param info what the page says of the guard */
  constructor(guard: Guard, info: GuardInfo) {
    const app = this.#app;
    app.use(async (c, next) => {
      const refusal = this.#refusal(c.req.raw);
      if (refusal) return c.text(refusal, 403);
      await next();
      c.header("cache-control", "no-store");
      c.header("referrer-policy", "no-referrer");
      c.header("x-content-type-options", "nosniff");
      c.header("x-frame-options", "DENY");
    });
    app.get("/", (c) =>
      c.html(page({ guard: info, examples: EXAMPLES, defaultPolicy: DEFAULT_POLICY, recording: null })),
    );
    app.get("/load", (c) => c.json<GuardLoad>({ ...guard.load, rss: process.memoryUsage.rss() }));
    app.post("/run", bodyLimit({ maxSize: MOST_BYTES }), async (c) => {
      const parsed = parseRun(await c.req.json().catch(() => null));
      if ("problem" in parsed) return c.json({ code: "REQUEST_INVALID", message: parsed.problem }, 400);
      c.header("content-type", "application/x-ndjson; charset=utf-8");
      return stream(c, async (out) => {
        const controller = new AbortController();
        this.#underway.add(controller);
        out.onAbort(() => controller.abort());
        // Lines go out in order, and a page that reads slowly holds nothing up but itself.
        let written = Promise.resolve();
        const emit = (event: RunEvent) => {
          written = written.then(async () => void (await out.write(`${JSON.stringify(event)}\n`)));
        };
        try {
          await run(guard, parsed.run, emit, controller.signal);
          await written;
        } finally {
          this.#underway.delete(controller);
        }
      });
    });
  }

  readonly fetch = (request: Request): Response | Promise<Response> => this.#app.fetch(request);

  /** Ends all runs. */
  abort(): void {
    for (const controller of this.#underway) controller.abort();
  }

  drain(): void {}

  /** Why a request is not answered: it comes from another page, by another name, or without the token. */
  #refusal(request: Request): string | null {
    const url = new URL(request.url);
    const host = request.headers.get("host") ?? "";
    const origin = request.headers.get("origin");
    if (!isLoopbackName(host.replace(/:\d+$/, ""))) return "This page is for this machine alone.";
    if (origin !== null && origin !== `http://${host}`) return "Other pages have no access.";
    const given = Buffer.from(url.searchParams.get("token") ?? "");
    const expected = Buffer.from(this.token);
    if (given.length === expected.length && timingSafeEqual(given, expected)) return null;
    return "Open the whole address that `qwen3guard playground` printed: it holds a token.";
  }
}
