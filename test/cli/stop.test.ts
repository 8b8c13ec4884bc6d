import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { scriptedUpstream, sse } from "../gateway/upstream.js";
import { MAIN } from "../support/cli.js";
import { freePort } from "../support/free-port.js";
import { MODEL_CACHE, temporaryFolder } from "../support/model.js";
import { OBSERVE, smallGuard } from "../support/small-guard.js";

const PRELOAD = fileURLToPath(new URL("../support/hold.mjs", import.meta.url));

let child: ChildProcess | undefined;
let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
let small: string[];
beforeAll(async () => {
  small = await smallGuard();
});
beforeEach(async () => {
  upstream = await scriptedUpstream();
});
afterEach(async () => {
  child?.kill("SIGKILL");
  await upstream.close();
});

/** A server of which one process stands still while it starts: a worker by its number, or the first one (0). */
async function startHeld(worker: number, at: "boot" | "load", ...args: string[]) {
  const folder = await temporaryFolder();
  const hold = join(folder, "hold");
  const tmp = join(folder, "tmp");
  await writeFile(hold, "");
  await mkdir(tmp);
  const started = spawn(process.execPath, [MAIN, ...args], {
    env: {
      ...process.env,
      ...{ NO_COLOR: "1", QWEN3GUARD_CACHE: MODEL_CACHE, TMPDIR: tmp },
      ...{ NODE_OPTIONS: `--import ${PRELOAD}`, HOLD: hold, HOLD_WORKER: String(worker), HOLD_AT: at },
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  child = started;
  let [said, log] = ["", ""];
  started.stdout.setEncoding("utf8").on("data", (text) => {
    said += text;
  });
  started.stderr.setEncoding("utf8").on("data", (text) => {
    log += text;
  });
  const ended = once(started, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  const pid = started.pid as number;
  const inTime = <T>(step: string, done: Promise<T>) => within90s(step, done, () => said + log);
  const sees = <T>(what: string, look: () => Promise<T | undefined | false>) =>
    inTime(what, eventually(look));
  return {
    pid,
    kill: (signal: NodeJS.Signals) => started.kill(signal),
    said: () => said,
    log: () => log,
    inTime,
    sees,
    release: () => rm(hold, { force: true }),
    /** Of the process that stands still, once it does. */
    held: () => sees("a process that is held", () => heldIn(folder)),
    /** What it came to, and what it left in the folder for temporary files. */
    end: async () => {
      const [code, signal] = await inTime("it ends", ended);
      return { code, signal, left: await readdir(tmp) };
    },
  };
}

async function heldIn(folder: string): Promise<number | undefined> {
  const name = (await readdir(folder)).find((name) => name.startsWith("hold."));
  return name === undefined ? undefined : Number(name.slice("hold.".length));
}

/** What a look brings, once it brings something. */
async function eventually<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Fails by name, with what was said, where a step does not come to its end. */
async function within90s<T>(step: string, done: Promise<T>, state: () => string): Promise<T> {
  const aborted = new AbortController();
  const late = sleep(90_000, undefined, { signal: aborted.signal }).then(() => {
    const error = new Error(`"${step}" was not over in time. ${state()}`);
    console.error(error);
    throw error;
  });
  late.catch(() => {});
  try {
    return await Promise.race([done, late]);
  } finally {
    aborted.abort();
  }
}

/** Processes that a process has started, in their order. */
async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  return text.trim().split(" ").filter(Boolean).map(Number);
}

const delta = (content: string) => sse({ choices: [{ index: 0, delta: { content } }] });

/** The upstream goes on with each answer until the function that this returns is called. */
function answerUntilReleased(): () => void {
  let over = false;
  upstream.answerWith(() => ({
    script: (function* () {
      yield* ["Knead ", "the ", "dough, "].map(delta);
      while (!over) yield 10;
      yield delta("then let it rest.");
      yield* [sse({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }), sse("[DONE]")];
    })(),
  }));
  return () => {
    over = true;
  };
}

/** A proxy of two workers, one held, with a stream under way on the other. */
async function startWithStream(worker: number, at: "boot" | "load", ...more: string[]) {
  const finish = answerUntilReleased();
  const port = await freePort();
  const options = ["--port", String(port), "--workers", "2", "--grace", "60", ...more];
  const proxy = await startHeld(worker, at, "proxy", "--upstream", upstream.url, ...small, ...options);
  const url = `http://127.0.0.1:${port}`;
  const response = await proxy.sees("an answer", () => ask(url).catch(() => undefined));
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  let text = "";
  const read = async () => {
    const { value, done } = await reader.read();
    text += Buffer.from(value ?? []).toString();
    return done;
  };
  while (!text.includes("Knead")) await read();
  const whole = (async () => {
    while (!(await read()));
    return text;
  })();
  whole.catch(() => {});
  /** Asks it to stop; resolves once nothing new is taken. */
  const stop = async (signal: NodeJS.Signals, ...pids: number[]) => {
    for (const pid of [proxy.pid, ...pids]) process.kill(pid, signal);
    await proxy.sees("nothing new is taken", () =>
      fetch(`${url}/healthz`).then(
        ({ status }) => status === 503,
        () => true,
      ),
    );
  };
  const workers = () => childrenOf(proxy.pid);
  return {
    ...proxy,
    stop,
    finish,
    workers,
    whole: () => proxy.inTime("the stream ends", whole),
    isLeftWith: (count: number) =>
      proxy.sees(`${count} workers`, async () => (await workers()).length === count),
    says: (words: string) => proxy.sees(words, async () => (proxy.said() + proxy.log()).includes(words)),
  };
}

const CLEAN = { code: 0, signal: null, left: [] };

function ask(url: string): Promise<Response> {
  return fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "m",
      stream: true,
      messages: [{ role: "user", content: "How do I bake bread?" }],
    }),
  });
}

describe.skipIf(process.platform !== "linux")(
  "while its second worker is still to start",
  { timeout: 300_000 },
  () => {
    test.each(["boot", "load"] as const)(
      "SIGTERM lets a stream of the first end, and both end with 0 (held at %s)",
      async (at) => {
        const proxy = await startWithStream(2, at);
        await proxy.held();
        await proxy.stop("SIGTERM");
        await proxy.release();
        await proxy.isLeftWith(1);
        proxy.finish();
        expect(await proxy.whole()).toContain("[DONE]");
        expect(await proxy.end()).toEqual(CLEAN);
        expect(proxy.said()).toBe("");
        expect(proxy.log()).not.toContain("WORKER_FAILED");
      },
    );

    test("a service manager's SIGTERM, which reaches all processes at once, does the same", async () => {
      const proxy = await startWithStream(2, "load");
      await proxy.held();
      await proxy.stop("SIGTERM", ...(await proxy.workers()));
      proxy.finish();
      expect(await proxy.whole()).toContain("[DONE]");
      await proxy.release();
      expect(await proxy.end()).toEqual(CLEAN);
    });

    test("a second Ctrl-C waits neither for the stream nor for the worker", async () => {
      const proxy = await startWithStream(2, "load");
      await proxy.held();
      await proxy.stop("SIGINT");
      proxy.kill("SIGINT");
      expect(await proxy.end()).toEqual(CLEAN);
      expect(await proxy.whole()).not.toContain("[DONE]");
    });

    test.each(["boot", "load"] as const)(
      "SIGHUP, at which files are read again, ends neither (held at %s)",
      async (at) => {
        const policies = join(await temporaryFolder(), "policies.json");
        await writeFile(policies, JSON.stringify({ policies: [{ name: "all", policy: OBSERVE }] }));
        const proxy = await startWithStream(2, at, "--policies", policies);
        await proxy.held();
        proxy.kill("SIGHUP");
        await proxy.says("policies_read");
        await proxy.release();
        await proxy.says("guards");
        proxy.finish();
        expect(await proxy.whole()).toContain("[DONE]");
        expect(await proxy.workers()).toHaveLength(2);
      },
    );

    test("the first is replaced where it dies, and SIGHUP does not end the second", async () => {
      const proxy = await startWithStream(2, "load");
      const held = await proxy.held();
      process.kill(held, "SIGHUP");
      const [first] = await proxy.workers();
      process.kill(first, "SIGKILL");
      expect(await proxy.whole()).toContain("worker_lost");
      await proxy.says("worker_started");
      await proxy.release();
      await proxy.says("guards");
      expect(await proxy.workers()).toHaveLength(2);
      expect(await proxy.workers()).toContain(held);
      proxy.kill("SIGTERM");
      expect(await proxy.end()).toEqual(CLEAN);
    });
  },
);

describe.skipIf(process.platform !== "linux")(
  "while a worker is being replaced",
  { timeout: 300_000 },
  () => {
    test.each(["boot", "load"] as const)(
      "SIGTERM lets streams end, and starts no more (held at %s)",
      async (at) => {
        const proxy = await startWithStream(3, at);
        await proxy.says("guards");
        // The stream came before there was a second.
        const [, second] = await proxy.workers();
        process.kill(second, "SIGKILL");
        await proxy.held();
        await proxy.stop("SIGTERM");
        await proxy.release();
        await proxy.isLeftWith(1);
        proxy.finish();
        expect(await proxy.whole()).toContain("[DONE]");
        expect(await proxy.end()).toEqual(CLEAN);
        expect(proxy.log()).not.toContain("worker_started");
      },
    );

    test("one that dies while the others end is not", async () => {
      const proxy = await startWithStream(3, "load");
      await proxy.says("guards");
      const [first] = await proxy.workers();
      await proxy.stop("SIGTERM");
      process.kill(first, "SIGKILL");
      expect(await proxy.whole()).toContain("worker_lost");
      expect(await proxy.end()).toEqual(CLEAN);
      expect(proxy.log()).not.toContain("worker_started");
    });
  },
);

describe.skipIf(process.platform === "win32")("while it loads its model", { timeout: 300_000 }, () => {
  const commands = [["proxy", "--upstream", "http://127.0.0.1:9"], ["serve"], ["playground"]];

  test.each(
    commands.flatMap((command) => (["SIGTERM", "SIGINT"] as const).map((signal) => ({ command, signal }))),
  )("$command.0 ends at $signal with 0 and has not served", async ({ command, signal }) => {
    const server = await startHeld(0, "load", ...command, "--port", "0");
    await server.held();
    server.kill(signal);
    await server.release();
    expect(await server.end()).toMatchObject({ code: 0, signal: null });
    expect(server.said()).toBe("");
  });

  test("SIGHUP, at which its audit is opened anew, does not end it", async () => {
    const audit = join(await temporaryFolder(), "audit.jsonl");
    const server = await startHeld(0, "load", "serve", "--port", "0", "--audit", audit);
    await server.held();
    server.kill("SIGHUP");
    await server.release();
    await server.sees("it serves", async () => server.said().startsWith("http"));
  });

  test("a second signal ends it at once", async () => {
    const server = await startHeld(0, "load", "serve", "--port", "0");
    await server.held();
    for (;;) {
      server.kill("SIGTERM");
      const ended = await Promise.race([server.end(), new Promise((resolve) => setTimeout(resolve, 100))]);
      if (ended !== undefined) return expect(ended).toMatchObject({ signal: "SIGTERM" });
    }
  });
});
