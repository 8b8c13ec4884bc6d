/**
 * What do several processes behind one port carry, and what do they add to each piece of text? A real `proxy --workers`
 * stands before an API in this process, whose answers come at once (how much goes through) and at a model's pace (what is
 * added). This process is both the API and its clients, on the same cores.
 *
 *   npm run bench -- workers [--dtype …] [--model embedded] [--runs 1x1,1x2,2x1,2x2 (workers x threads)] [--streams AT ONCE]
 *     [--pieces OF AN ANSWER] [--paced STREAMS] [--pace PIECES A SECOND] [--budget SECONDS]
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { words } from "./conversation-text.js";
import { GUARD_OPTIONS, guardDir, guardName } from "./guard.js";
import { report } from "./report.js";
import { round, summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    ...GUARD_OPTIONS,
    runs: { type: "string", default: "1x1,1x2,2x1,2x2" },
    streams: { type: "string", default: "16" },
    pieces: { type: "string", default: "64" },
    paced: { type: "string", default: "16" },
    pace: { type: "string", default: "20" },
    budget: { type: "string", default: "15" },
  },
});
const MAIN = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const [streams, pieces, paced, pace, budget] = [
  values.streams,
  values.pieces,
  values.paced,
  values.pace,
  values.budget,
].map(Number);

const answer = words(pieces).split(" ");

/** By the number of its request: when each piece of an answer was sent. */
const sent = new Map<string, number[]>();

/** An API that answers with `pieces` words, so many milliseconds apart. */
async function startApi(pauseMs: () => number): Promise<Server> {
  const server = createServer(async (asked, response) => {
    const { messages } = JSON.parse(await text(asked));
    const [id] = messages.at(-1).content.split(" ");
    const times: number[] = [];
    sent.set(id, times);
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (let i = 0; i < pieces && !response.destroyed; i++) {
      if (pauseMs() > 0) await sleep(pauseMs());
      times.push(performance.now());
      response.write(event({ content: `${answer[i]} ` }, null));
    }
    response.end(`${event({}, "stop")}data: [DONE]\n\n`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

function event(delta: object, reason: string | null): string {
  const choices = [{ index: 0, delta, finish_reason: reason }];
  return `data: ${JSON.stringify({ id: "1", object: "chat.completion.chunk", created: 1, model: "m", choices })}\n\n`;
}

let requests = 0;

/** Reads an answer on a connection of its own; milliseconds between each piece's way out of the API and its arrival. */
async function readAnswer(url: string): Promise<number[]> {
  const id = `r${++requests}`;
  const body = {
    model: "m",
    stream: true,
    messages: [{ role: "user", content: `${id} Tell me of the sea.` }],
  };
  const asked = request(`${url}/v1/chat/completions`, {
    method: "POST",
    agent: false,
    headers: { "content-type": "application/json" },
  });
  asked.end(JSON.stringify(body));
  const [response] = await once(asked, "response");
  const added: number[] = [];
  let rest = "";
  let length = 0;
  let due = lengthOf(0);
  for await (const part of response.setEncoding("utf8")) {
    const now = performance.now();
    const events = (rest + part).split("\n\n");
    rest = events.pop() as string;
    for (const data of events.filter((line) => line.startsWith("data: {"))) {
      const found = JSON.parse(data.slice(6));
      if (!found.choices) throw new Error(data);
      length += found.choices[0]?.delta?.content?.length ?? 0;
    }
    while (added.length < pieces && length >= due) {
      added.push(now - (sent.get(id) as number[])[added.length]);
      due += lengthOf(added.length);
    }
  }
  sent.delete(id);
  if (added.length !== pieces) throw new Error(`An answer has ${added.length} of ${pieces} pieces.`);
  return added;
}

/** Characters of a piece but for the space after it, which may come with the next. */
function lengthOf(piece: number): number {
  return (answer[piece] ?? "").length + (piece === 0 ? 0 : 1);
}

/** So many clients that read one answer after the other, until time is up. */
async function load(
  url: string,
  clients: number,
  seconds: number,
): Promise<{ added: number[]; answers: number }> {
  const end = performance.now() + 1000 * seconds;
  const added: number[] = [];
  let answers = 0;
  const client = async () => {
    while (performance.now() < end) {
      added.push(...(await readAnswer(url)));
      answers++;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return { added, answers };
}

async function tokensOf(url: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  return Number(/^qwen3guard_tokens_total (\d+)/m.exec(metrics)?.[1]);
}

async function startProxy(upstream: string, policy: string, workers: string, threads: string) {
  const model = await guardDir(values);
  const places = String(Math.max(streams, paced));
  const args = [
    "--port",
    "0",
    "--workers",
    workers,
    "--threads",
    threads,
    "--policy",
    policy,
    "--max-streams",
    places,
    "--device",
    values.device,
  ];
  const child = spawn(
    process.execPath,
    [MAIN, "proxy", "--upstream", upstream, ...args, ...(model ? ["--model", model] : [])],
    {
      stdio: ["ignore", "pipe", "ignore"],
    },
  );
  const [said] = await Promise.race([once(child.stdout, "data"), once(child, "exit")]);
  return { child, url: String(said).split(" ")[0] };
}

async function stop(child: ChildProcess): Promise<void> {
  child.kill("SIGTERM");
  if (child.exitCode === null) await once(child, "exit");
}

const folder = await mkdtemp(join(tmpdir(), "qwen3guard-bench-"));
const policy = join(folder, "policy.json");
// Answers are to be read to their end.
await writeFile(policy, JSON.stringify({ action: "observe" }));
let pauseMs = 0;
const api = await startApi(() => pauseMs);
const upstream = `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
const results: Record<string, unknown> = {};
for (const run of values.runs.split(",")) {
  const [workers, threads] = run.split("x");
  const { child, url } = await startProxy(upstream, policy, workers, threads);
  pauseMs = 0;
  await load(url, streams, 1);
  const before = await tokensOf(url);
  const started = performance.now();
  const { answers } = await load(url, streams, budget);
  const seconds = (performance.now() - started) / 1000;
  const tokens = (await tokensOf(url)) - before;
  pauseMs = 1000 / pace;
  const { added } = await load(url, paced, budget);
  const result = {
    answersPerSecond: round(answers / seconds),
    tokensPerSecond: round(tokens / seconds),
    addedMs: summarize(added),
  };
  results[`${workers} workers, ${threads} threads`] = result;
  console.log(run, JSON.stringify(result));
  await stop(child);
  report(
    `workers-${guardName(values)}`,
    { guard: guardName(values), ...{ streams, pieces, paced, pace }, results },
    values.device,
  );
}
api.close();
await rm(folder, { recursive: true });
