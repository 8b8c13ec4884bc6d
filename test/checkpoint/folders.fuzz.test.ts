import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { tiny, writeRandomCheckpoint } from "../../scripts/checkpoint/random.js";
import { temporaryFolder } from "../support/model.js";

/** FUZZ_RUNS asks for more, FUZZ_SEED for others. */
const RUNS = Number(process.env.FUZZ_RUNS ?? 150);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
/** Without a word for so long, a case hangs. Milliseconds. */
const HANGS = process.env.FUZZ_RUNS ? 5000 : 100_000;
const FUZZER = fileURLToPath(new URL("folder-fuzz.ts", import.meta.url));

interface Case {
  name: string;
  outcome: string;
}

/** Runs cases from `from` on, until all are done or one of them ends the process. */
async function run(base: string, from: number): Promise<Case[]> {
  const work = await temporaryFolder();
  const args = [base, work, SEED, from, RUNS - from].map(String);
  const child = spawn(process.execPath, ["--import", "tsx", FUZZER, ...args]);
  let stderr = "";
  child.stderr.on("data", (text) => {
    stderr = (stderr + text).slice(-2000);
  });
  const cases: Case[] = [];
  const ended = once(child, "exit");
  let watchdog: NodeJS.Timeout | undefined;
  for await (const line of createInterface(child.stdout)) {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => child.kill("SIGKILL"), HANGS);
    if (line.startsWith("case ")) cases.push({ name: line, outcome: "HANGS" });
    else Object.assign(cases.at(-1) ?? {}, { outcome: line });
  }
  clearTimeout(watchdog);
  const [code, signal] = await ended;
  const last = cases.at(-1);
  if (code !== 0 && last && signal !== "SIGKILL") last.outcome = `CRASH ${signal ?? code} ${stderr}`;
  if (!last) throw new Error(`The fuzzer does not start: ${stderr}`);
  return cases;
}

test.skipIf(process.platform === "win32")(
  "whatever is done to a checkpoint's files, it loads or says by name why not",
  async () => {
    const base = await temporaryFolder();
    await writeRandomCheckpoint(base, { config: tiny, dtype: "BF16" });
    const cases: Case[] = [];
    while (cases.length < RUNS) {
      cases.push(...(await run(base, cases.length)));
    }
    expect(cases.filter(({ outcome }) => /^(UNNAMED|HANGS|CRASH)/.test(outcome))).toEqual([]);
    expect(new Set(cases.map(({ outcome }) => outcome)).size).toBeGreaterThan(10);
    expect(cases.some(({ outcome }) => outcome === "ok ok ok")).toBe(true);
  },
  240_000 + RUNS * 1000,
);
