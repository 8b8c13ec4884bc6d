import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { MAIN, runCli } from "../support/cli.js";
import { MODEL_CACHE, randomModel, temporaryFolder } from "../support/model.js";

const QUESTION = [{ role: "user", content: "Write a card." }];
const INSULT =
  "You are a stupid, ugly loser, everybody here hates you, and I will come to your house and hurt you.";

let cache: string;
let folder: string;
let child: ChildProcess | undefined;
/** Options for a guard at random, which is sooner loaded, where verdicts are no matter. */
let small: string[];
beforeAll(async () => {
  cache = MODEL_CACHE;
  const { modelDir } = await randomModel({ config: {}, dtype: "BF16" });
  small = ["--model", modelDir];
});
afterEach(() => child?.kill("SIGKILL"));

interface Body {
  id: string;
  from: number;
  text: string[];
  verdicts: { text: string[] };
  decision: { risk: string };
  error: { code: string };
}

/** A service of two workers, which are all there once it says where it listens. */
async function start(...options: string[]) {
  folder = join(await temporaryFolder(), "tmp");
  await mkdir(folder);
  const args = [MAIN, "serve", "--port", "0", "--workers", "2", ...options];
  const started = spawn(process.execPath, args, {
    env: { ...process.env, NO_COLOR: "1", QWEN3GUARD_CACHE: cache, TMPDIR: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  child = started;
  let log = "";
  started.stderr.setEncoding("utf8").on("data", (text) => {
    log += text;
  });
  const ended = once(started, "close");
  const [said] = await Promise.race([once(started.stdout, "data"), ended]);
  const url = String(said).split(" ")[0];
  return {
    url,
    said: String(said),
    ended,
    pid: started.pid as number,
    entries: () => log.split("\n").flatMap((line) => (line.startsWith("{") ? [JSON.parse(line)] : [])),
    metric: async (line: RegExp) => Number(line.exec(await (await fetch(`${url}/metrics`)).text())?.[1] ?? 0),
  };
}

/** A client with a connection that it keeps, and that so stays with a worker. */
function connection(url: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return async (method: string, path: string, body?: object) => {
    const asked = request(`${url}${path}`, {
      method,
      agent,
      headers: { authorization: "Bearer k", "content-type": "application/json" },
    });
    asked.end(body && JSON.stringify(body));
    const [answer] = await once(asked, "response");
    return { status: answer.statusCode, body: (answer.statusCode === 204 ? {} : await json(answer)) as Body };
  };
}

/** Two connections, each with another worker. */
async function twoConnections(url: string) {
  const both = [connection(url), connection(url)];
  // The second opens while the first one's worker has one already.
  for (const ask of both) await ask("GET", "/healthz");
  return both;
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Processes that a process has started. */
async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  return text.trim().split(" ").filter(Boolean).map(Number);
}

describe.skipIf(process.platform !== "linux")("serve --workers", () => {
  test("a stream's increments reach the worker that holds it, whatever connection they come on", async () => {
    const service = await start();
    expect(service.said).toContain("serves qwen3guard");
    const asks = await twoConnections(service.url);
    const opened = await Promise.all(asks.map((ask) => ask("POST", "/v1/streams", { messages: QUESTION })));
    const ids = opened.map(({ body }) => body.id);
    expect(new Set(ids.map((id) => id.split("-")[0])).size).toBe(2);
    for (const id of ids) {
      const texts: string[] = [];
      const keep = ({ from, text }: { from: number; text: string[] }) => {
        if (text.length > 0) texts.splice(from, texts.length, ...text);
      };
      for (const [i, text] of (INSULT.match(/.{1,9}/g) as string[]).entries()) {
        const { status, body } = await asks[i % 2]("POST", `/v1/streams/${id}`, { text });
        expect(status).toBe(200);
        keep(body);
      }
      const { status, body } = await asks[0]("POST", `/v1/streams/${id}/end`, {});
      expect({ status, body }).toMatchObject({ status: 200 });
      keep({ from: texts.length, ...body.verdicts });
      expect(texts.join("")).toBe(INSULT);
      expect(body.decision.risk).toBe("Unsafe");
      for (const ask of asks) {
        expect((await ask("POST", `/v1/streams/${id}`, { text: "more" })).body.error.code).toBe(
          "stream_unknown",
        );
      }
    }
    const { body } = await asks[0]("POST", "/v1/streams", { messages: QUESTION });
    expect((await asks[1]("DELETE", `/v1/streams/${body.id}`)).status).toBe(204);
    expect((await asks[0]("DELETE", `/v1/streams/${body.id}`)).status).toBe(404);
    const never = body.id.replace(/^\d+/, "99");
    expect((await asks[0]("POST", `/v1/streams/${never}`, { text: "a" })).body.error.code).toBe(
      "stream_unknown",
    );
    // Each request is counted once, by the worker that answered it: three that opened, and for each stream its pushes and end.
    const requests = 3 + 2 * ((INSULT.match(/.{1,9}/g) as string[]).length + 1);
    await until(
      async () =>
        (await service.metric(/^qwen3guard_requests_total\{[^}]*streams[^}]*end="passed"[^}]*\} (\d+)/m)) ===
        requests,
    );
  });

  test("kill -9 of a worker ends its own streams with an error, and nobody else's; another takes its place", async () => {
    const service = await start(...small);
    const asks = await twoConnections(service.url);
    const opened = await Promise.all(asks.map((ask) => ask("POST", "/v1/streams", { messages: QUESTION })));
    const sockets = [1, 2].map(() => new WebSocket(`${service.url.replace("http", "ws")}/v1/streams`));
    const told = sockets.map((socket) => {
      const messages: { type: string; error?: { code: string } }[] = [];
      socket.on("message", (data) => messages.push(JSON.parse(String(data))));
      return messages;
    });
    await Promise.all(sockets.map((socket) => once(socket, "open")));
    for (const socket of sockets) {
      socket.send(JSON.stringify({ type: "open", messages: QUESTION }));
      socket.send(JSON.stringify({ type: "push", text: "Dear Anna, " }));
    }
    await until(() => told.every((messages) => messages.some(({ type }) => type === "verdicts")));
    const [killed, other] = await childrenOf(service.pid);
    process.kill(killed, "SIGKILL");

    await Promise.any(sockets.map((socket) => once(socket, "close")));
    const lost = sockets.findIndex(({ readyState }) => readyState === WebSocket.CLOSED);
    expect(told[lost].at(-1)).toMatchObject({ type: "error", error: { code: "worker_lost" } });
    const survivor = sockets[1 - lost];
    survivor.send(JSON.stringify({ type: "push", text: "happy birthday!" }));
    survivor.send(JSON.stringify({ type: "end" }));
    expect((await once(survivor, "close"))[0]).toBe(1000);
    expect(told[1 - lost].at(-1)).toMatchObject({ type: "decision" });

    // The first worker that was started has the lower number; on a connection of its own, as one is broken.
    const pushes = opened.map(({ body }) =>
      connection(service.url)("POST", `/v1/streams/${body.id}`, { text: "Hi" }),
    );
    const ends = (await Promise.all(pushes)).map(({ status, body }) => body.error?.code ?? status);
    expect(ends.sort()).toEqual([200, "worker_lost"]);

    await until(() => service.entries().some(({ event }) => event === "worker_started"));
    const now = await childrenOf(service.pid);
    expect(now).toHaveLength(2);
    expect(now).toContain(other);
    const again = connection(service.url);
    const { body } = await again("POST", "/v1/streams", { messages: QUESTION });
    expect((await again("POST", `/v1/streams/${body.id}`, { text: "Dear Bob" })).status).toBe(200);
  });

  test("of streams that are opened on a connection each, every worker gets its share", async () => {
    const { url } = await start(...small, "--max-streams", "2");
    const opened: Body[] = [];
    for (let i = 0; i < 4; i++) {
      const headers = { "content-type": "application/json", connection: "close" };
      const asked = request(`${url}/v1/streams`, { method: "POST", agent: false, headers });
      asked.end(JSON.stringify({ messages: QUESTION }));
      const [answer] = await once(asked, "response");
      opened.push((await json(answer)) as Body);
    }
    expect(opened.map(({ id }) => id?.split("-")[0]).sort()).toEqual(["1", "1", "2", "2"]);
  });

  test("a client's requests a minute are counted over all workers", async () => {
    const service = await start(...small, "--rate-limit", "1");
    const asks = await twoConnections(service.url);
    const ask = (i: number) => asks[i % 2]("POST", "/v1/classify", { messages: QUESTION });
    const statuses = (await Promise.all([0, 1, 2, 3].map(ask))).map(({ status }) => status);
    expect(statuses.sort()).toEqual([200, 429, 429, 429]);
  });

  test("SIGTERM ends it, and it leaves nothing behind", async () => {
    const service = await start(...small);
    child?.kill("SIGTERM");
    expect((await service.ended)[0]).toBe(0);
    expect(await readdir(folder)).toEqual([]);
  });

  test("a folder for temporary files that is none is named", async () => {
    const { code, stderr } = await runCli(["serve", "--port", "0", "--workers", "2"], {
      env: { TMPDIR: "/dev/null" },
    });
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining("[SOCKETS_UNWRITABLE]") });
  });

  test("workers whose first process is killed stop, and leave nothing behind", async () => {
    const service = await start(...small);
    const workers = await childrenOf(service.pid);
    child?.kill("SIGKILL");
    await until(() => workers.every((pid) => !existsSync(`/proc/${pid}`)));
    expect(await readdir(folder)).toEqual([]);
  });
});
