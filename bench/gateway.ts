/**
 * Does a proxy lose a slot, mix answers up or grow, when requests of every protocol come by the thousand, servers die and
 * clients leave midway? And when the model is asked to go on, and with several processes?
 *
 *   npm run bench -- gateway [--requests 4000] [--at-once 16] [--runs hold-back,stream-first,vllm,anthropic,vllmx2]
 *
 * A real `qwen3guard proxy` with the embedded guard before an API in this process. A run is a mode, or the server of the
 * mode `regenerate`, and how many workers. Every answer must be the one that its request gets when nobody else asks, and one
 * that was cut short its beginning. Memory is that of the proxy's processes together; Linux alone tells.
 */
import { once } from "node:events";
import { Agent, request } from "node:http";
import { parseArgs } from "node:util";
import { PROTOCOLS, type Protocol } from "../test/gateway/protocols.js";
import { type Death, harmlessOf, piecesOf, SAMPLES, startApi } from "./gateway-api.js";
import { report } from "./report.js";
import { round, summarize } from "./stats.js";
import { isIdle, residentMB, startProxy } from "./watched-proxy.js";

const { values } = parseArgs({
  options: {
    requests: { type: "string", default: "4000" },
    "at-once": { type: "string", default: "16" },
    runs: { type: "string", default: "hold-back,stream-first,vllm,anthropic,vllmx2" },
    phases: { type: "string", default: "20" },
  },
});
const [requests, atOnce, phases] = [values.requests, values["at-once"], values.phases].map(Number);
/** Phases in which memory may still grow: code is compiled, buffers find their size. */
const WARM_UP = Math.floor(phases / 3);
/** More than clients: one that left holds its slot until the proxy has noticed. */
const SLOTS = 32;
const SERVERS = ["vllm", "anthropic"];
const DEATHS: Death[] = ["dies", "ends early", "fails", "refuses"];

interface Asked {
  protocol: Protocol;
  sample: number;
  streamed: boolean;
  death?: Death;
  /** Events after which the server does what `death` says. */
  after?: number;
  /** Reads after which the client leaves; -1: in the middle of its request. */
  leaves?: number;
}

interface Came {
  text: string;
  end: "whole" | "flagged" | "failed" | "left";
}

const random = generator(7);
const agent = new Agent({ keepAlive: true });
const api = await startApi();
const results = [];
for (const run of values.runs.split(",")) {
  results.push(await soak(run));
  report("gateway", { requests, atOnce, slots: SLOTS, warmUpPhases: WARM_UP, runs: results });
}
api.close();
if (results.some(({ missed }) => missed.length > 0)) process.exitCode = 1;

async function soak(run: string) {
  const [mode, workers = "1"] = run.split("x");
  const how = SERVERS.includes(mode)
    ? ["--mode", "regenerate", "--continue", mode, "--buffer", "20"]
    : ["--mode", mode];
  const size = ["--max-streams", String(SLOTS), "--workers", workers];
  const proxy = await startProxy(["--upstream", api.url, ...size, ...how]);
  const alone = new Map<string, Came>();
  for (const asked of every())
    alone.set(nameOf(asked), await ask(proxy.url, asked, `${run} alone ${nameOf(asked)}`));
  const counts: Record<string, number> = { whole: 0, flagged: 0, failed: 0, left: 0 };
  const rssMB: number[] = [];
  let wrong = 0;
  let lost = 0;
  let n = 0;
  for (let phase = 0; phase < phases; phase++) {
    const until = Math.round(((phase + 1) * requests) / phases);
    const client = async () => {
      while (n < until) {
        const asked = drawn();
        const came = await ask(proxy.url, asked, `${run} ${n++}`);
        counts[came.end]++;
        if (fits(came, asked, alone.get(nameOf(asked)) as Came, mode)) continue;
        wrong++;
        console.error("wrong", nameOf(asked), asked.death, asked.leaves, came, alone.get(nameOf(asked)));
      }
    };
    await Promise.all(Array.from({ length: atOnce }, client));
    if (!(await isIdle(proxy.url))) lost++;
    rssMB.push(await residentMB(proxy.process.pid as number));
  }
  const metrics = await (await fetch(`${proxy.url}/metrics`)).text();
  const regenerations = sumOf(metrics, "qwen3guard_regenerations_total");
  proxy.process.kill();
  await once(proxy.process, "exit");
  const growth = rssMB[0] > 0 ? growthPercent(rssMB.slice(WARM_UP)) : null;
  const targets: [string, boolean][] = [
    ["no slot lost", lost === 0],
    ["every answer is that of its request alone", wrong === 0],
    ["memory grows by less than 2 %", growth === null || growth < 2],
    ["servers died, clients left", Math.min(counts.failed, counts.left) > requests / 20],
    ["models were asked to go on", !SERVERS.includes(mode) || regenerations > requests / 50],
  ];
  console.log(
    `${run}: ${JSON.stringify(counts)}, gone on with ${regenerations}, RSS ${rssMB.join(" ")} MB (${growth} %)`,
  );
  for (const [name, met] of targets) console.log(`${met ? "met   " : "MISSED"} ${name}`);
  const missed = targets.filter(([, met]) => !met).map(([name]) => name);
  return {
    run,
    answers: counts,
    regenerations,
    phasesWithSlotsHeld: lost,
    wrong,
    rssMB,
    rssGrowthPercent: growth,
    missed,
  };
}

function* every(): Iterable<Asked> {
  for (const protocol of PROTOCOLS)
    for (const streamed of [true, false])
      for (let sample = 0; sample < SAMPLES; sample++) yield { protocol, sample, streamed };
}

function drawn(): Asked {
  const asked = {
    protocol: pick(PROTOCOLS),
    sample: Math.floor(random() * SAMPLES),
    streamed: random() < 0.8,
  };
  const fate = random();
  if (fate < 0.2) return { ...asked, death: pick(DEATHS), after: Math.floor(random() * 12) };
  if (fate < 0.45) return { ...asked, leaves: Math.floor(random() * 10) - 1 };
  return asked;
}

function nameOf({ protocol, sample, streamed }: Asked): string {
  return `${protocol.path} ${sample} ${streamed ? "streamed" : "whole"}`;
}

/** Whether what came is what the same request gets alone, or the beginning of it where somebody left. */
function fits({ text, end }: Came, { sample, death }: Asked, alone: Came, mode: string): boolean {
  const early = mode === "stream-first";
  const begins =
    alone.text.startsWith(text) ||
    // What leaves before it is judged is as much as there was time for; else nothing leaves of what is harmful.
    (early ? piecesOf(sample) : harmlessOf(sample)).join("").startsWith(text);
  if (end === "left") return begins;
  if (end === "failed") return begins && death !== undefined;
  // A server may die behind what was flagged, or behind the answer's last word.
  return end === alone.end && (early && end === "flagged" ? begins : text === alone.text);
}

function ask(url: string, asked: Asked, name: string): Promise<Came> {
  const { protocol, sample, streamed, death, after, leaves = Number.POSITIVE_INFINITY } = asked;
  return new Promise((resolve, reject) => {
    let raw = "";
    let reads = 0;
    const outgoing = request(`${url}${protocol.path}`, {
      agent,
      method: "POST",
      headers: {
        ...{ "content-type": "application/json", "x-sample": sample, "x-name": name },
        ...(death && { "x-death": death, "x-after": after }),
      },
    });
    const leave = () => {
      outgoing.destroy();
      resolve({ text: streamed ? protocol.read(raw).text : "", end: "left" });
    };
    outgoing.on("error", (error) => {
      if (leaves < Number.POSITIVE_INFINITY) return;
      // The proxy gave the connection up while it was idle, as HTTP lets it: nothing of the request was read.
      if (outgoing.reusedSocket && raw === "") resolve(ask(url, asked, name));
      else reject(error);
    });
    outgoing.on("response", (response) => {
      response.setEncoding("utf8");
      response.on("error", () => {});
      response.on("data", (data) => {
        raw += data;
        if (++reads > leaves) leave();
      });
      response.on("end", () => resolve(cameOf(protocol, streamed && response.statusCode === 200, raw)));
    });
    const body = JSON.stringify(protocol.request(`How do I bake cake ${sample}?`, streamed));
    if (leaves === -1) return outgoing.write(body.slice(0, 20), leave);
    outgoing.end(body);
    if (leaves === 0) setTimeout(leave, random() * 30);
  });
}

function cameOf(protocol: Protocol, streamed: boolean, raw: string): Came {
  const flagged = /"content_filter"|"stop_reason":"refusal"/.test(raw);
  if (streamed) {
    const { text, failed } = protocol.read(raw);
    return { text, end: failed ? "failed" : flagged ? "flagged" : "whole" };
  }
  const body = JSON.parse(raw);
  if (body.error) return { text: "", end: "failed" };
  return { text: protocol.textOf(body as never), end: flagged ? "flagged" : "whole" };
}

function sumOf(metrics: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)`, "m").exec(metrics)?.[1] ?? 0);
}

function growthPercent(rssMB: number[]): number {
  const third = Math.max(1, Math.floor(rssMB.length / 3));
  const median = (part: number[]) => summarize(part).p50;
  return round(100 * (median(rssMB.slice(-third)) / median(rssMB.slice(0, third)) - 1), 3);
}

function pick<T>(items: readonly T[]): T {
  return items[Math.floor(random() * items.length)];
}

function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}
