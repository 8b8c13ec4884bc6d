/** A real `qwen3guard proxy` with the embedded guard, for `gateway.ts`, which looks after its memory and its slots. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** Has a process of the proxy's collect its garbage when it is told to: what is left counts. */
const COLLECTS = `
  import v8 from "node:v8";
  import vm from "node:vm";
  import { isMainThread } from "node:worker_threads";
  v8.setFlagsFromString("--expose-gc");
  const collect = vm.runInNewContext("gc");
  if (isMainThread) process.on("SIGUSR2", () => [0, 1].forEach(() => collect()));
`;
const HOLDING = /^qwen3guard_(?:streams|slots\{state="\w+"\}) ([1-9]\d*)/m;

/** @param options of the command line's */
export async function startProxy(options: string[]): Promise<{ url: string; process: ChildProcess }> {
  const main = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
  const started = spawn(process.execPath, [main, "proxy", "--port", "0", ...options], {
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(COLLECTS)}` },
  });
  process.once("exit", () => started.kill());
  const url = await new Promise<string>((resolve, reject) => {
    started.once("exit", (code) => reject(new Error(`The proxy ended with ${code}.`)));
    started.stdout.on("data", (data) => {
      const found = /http:\/\/[\d.:]+/.exec(String(data));
      if (found) resolve(found[0]);
    });
  });
  return { url, process: started };
}

/** Whether within a few seconds nothing holds a slot. */
export async function isIdle(url: string): Promise<boolean> {
  for (let tries = 0; tries < 50; tries++) {
    const metrics = await (await fetch(`${url}/metrics`)).text();
    if (!HOLDING.test(metrics)) return true;
    await sleep(100);
  }
  return false;
}

/** Of a process and those that it started, without garbage; 0 where nothing tells. */
export async function residentMB(pid: number): Promise<number> {
  if (process.platform !== "linux") return 0;
  const pids = familyOf(pid);
  for (const own of pids) process.kill(own, "SIGUSR2");
  await sleep(500);
  return Math.round(
    pids.reduce((sum, own) => sum + Number(/VmRSS:\s+(\d+)/.exec(statusOf(own))?.[1]), 0) / 1024,
  );
}

function familyOf(pid: number): number[] {
  const children = readdirSync("/proc").filter(
    (id) => /^\d+$/.test(id) && new RegExp(`^PPid:\\s+${pid}$`, "m").test(statusOf(id)),
  );
  return [pid, ...children.flatMap((id) => familyOf(Number(id)))];
}

/** "" of a process that has ended. */
function statusOf(id: string | number): string {
  try {
    return readFileSync(`/proc/${id}/status`, "utf8");
  } catch {
    return "";
  }
}
