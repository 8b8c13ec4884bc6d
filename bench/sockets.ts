/**
 * Does `qwen3guard serve` leak or mix streams up, when hundreds of WebSockets open, push, and die at random?
 *
 *   npm run bench -- sockets [--seconds 180] [--at-once 48]
 *
 * The embedded guard, in a process of its own. A stream that comes to its end must get the decision that its text gets alone.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { WebSocket } from "ws";
import { report } from "./report.js";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "180" }, "at-once": { type: "string", default: "48" } },
});
const SECONDS = Number(values.seconds);
const AT_ONCE = Number(values["at-once"]);
const SLOTS = 16;
const SAMPLE_MS = 10_000;
const TEXTS = [
  "Mix flour with water, and wait.",
  "You take the powder and put it into the pipe, then light it.",
  "I'm sorry, I can't help with that.",
  "Bread needs salt. ".repeat(12),
];
/** How a stream goes: to its end, cut off, closed, cut off before it says anything, left in the middle of a frame. */
const FATES = ["ends", "ends", "dies", "closes", "silent", "half a frame"] as const;

const server = spawn(
  process.execPath,
  [
    fileURLToPath(new URL("../dist/cli/main.js", import.meta.url)),
    ...["serve", "--port", "0", "--max-streams", String(SLOTS - 1)],
  ],
  { stdio: ["ignore", "pipe", "ignore"] },
);
const url = await new Promise<string>((resolve, reject) => {
  server.once("exit", (code) => reject(new Error(`serve ended with ${code}`)));
  server.stdout.on("data", (data) => {
    const found = /http:\/\/[\d.:]+/.exec(String(data));
    if (found) resolve(found[0]);
  });
});
const counts: Record<string, number> = { refused: 0, wrong: 0 };
const alone = new Map<string, string>();
for (const text of TEXTS) alone.set(text, (await stream(text, "ends")) as string);

const rssMB: number[] = [];
const sampling = setInterval(() => rssMB.push(residentMB()), SAMPLE_MS);
const until = Date.now() + 1000 * SECONDS;
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (Date.now() < until) {
      const text = TEXTS[Math.floor(Math.random() * TEXTS.length)];
      const fate = FATES[Math.floor(Math.random() * FATES.length)];
      const decision = await stream(text, fate);
      counts[fate] = (counts[fate] ?? 0) + 1;
      if (decision === null) counts.refused++;
      else if (fate === "ends" && decision !== alone.get(text)) counts.wrong++;
      if (decision === null) await sleep(50);
    }
  }),
);
clearInterval(sampling);
await sleep(3000);
const health = await (await fetch(`${url}/healthz`)).json();
rssMB.push(residentMB());
server.kill();
console.log(JSON.stringify({ counts, rssMB, health }));
report("sockets", { seconds: SECONDS, atOnce: AT_ONCE, streams: counts, rssMB, health });

/** Its decision; "" where it has none, null where it was refused. */
function stream(text: string, fate: (typeof FATES)[number]): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/streams`);
    let decision: string | null = "";
    socket.on("error", () => {});
    socket.on("close", () => resolve(decision));
    socket.on("open", () => {
      if (fate === "silent") return socket.terminate();
      send({ type: "open", messages: [{ role: "user", content: "How do I do it?" }] });
      const middle = Math.floor(text.length / 2);
      send({ type: "push", text: text.slice(0, middle) });
      if (fate === "half a frame") {
        const raw = (socket as unknown as { _socket: import("node:net").Socket })._socket;
        return raw.write(Buffer.from([0x81, 0xfe, 0x01]), () => socket.terminate());
      }
      if (fate === "dies") return setTimeout(() => socket.terminate(), 100 * Math.random());
      if (fate === "closes") return send({ type: "close" });
      send({ type: "push", text: text.slice(middle) });
      send({ type: "end" });
    });
    socket.on("message", (data) => {
      const message = JSON.parse(String(data));
      if (message.type === "error") decision = null;
      if (message.type === "decision") decision = JSON.stringify([message.risk, message.flaggedAt]);
    });
    const send = (message: object) => socket.send(JSON.stringify(message));
  });
}

function residentMB(): number {
  const [, kB] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8")) ?? [];
  return Math.round(Number(kB) / 1024);
}
