import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeAll, expect, test } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { MAIN, runCli } from "../support/cli.js";
import { SHORT_LIVED } from "../support/java.js";
import { randomModel, temporaryFolder } from "../support/model.js";

/** A virtual environment with PySpark, as `.ci/run` makes one. Without it nothing of this is tested. */
const PYSPARK = process.env.QWEN3GUARD_PYSPARK ?? "";
const SUBMIT = join(PYSPARK, "bin/spark-submit");
const PYTHON = join(PYSPARK, "bin/python3");
const JOB = fileURLToPath(new URL("../../deploy/spark/score.py", import.meta.url));
/** SPARK_ROWS asks for more. */
const ROWS = Number(process.env.SPARK_ROWS ?? 2_000);
const PARTITIONS = 4;
/** How often each row comes: judged once, they are compared with all their likes. */
const TIMES = 10;

let folder: string;
let child: ChildProcess | null = null;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterEach(() => child?.kill("SIGKILL"));

test.runIf(process.env.CI)("CI has PySpark", () => expect(existsSync(SUBMIT)).toBe(true));

test.skipIf(!existsSync(SUBMIT))(
  "Spark judges as one process does, and a partition whose executor is killed is judged again",
  { timeout: 600_000 },
  async () => {
    const distinct = conversations(ROWS / TIMES);
    // How good the verdicts are is no matter here, that they differ is; a small guard gives thousands of them soon.
    const { modelDir } = await randomModel({ config: tiny, dtype: "BF16" });
    const score = ["score", "--threads", "1", "--model", modelDir];
    const alone = await runCli(score, { input: distinct.join("") });
    expect(alone).toMatchObject({ code: 0, stderr: "" });
    expect(new Set(alone.stdout.match(/"risk":"\w+"/g)).size).toBeGreaterThan(1);
    await writeFile(join(folder, "rows.jsonl"), distinct.join("").repeat(TIMES));

    await mkdir(join(folder, "events"));
    const { ended, log } = submit(score);
    const executor = await busyExecutor(child?.pid as number);
    process.kill(executor, "SIGKILL");
    expect({ code: (await ended)[0], log: log() }).toMatchObject({ code: 0 });
    expect(await outcome()).toBe(alone.stdout.repeat(TIMES));
    expect(await lostTasks()).toBeGreaterThan(0);
  },
);

/** Prompts of common words, some unsafe to the embedded guard; the same each time. */
function conversations(count: number): string[] {
  const words = "how do I bake bread with my stupid ugly friend and a bomb in the garden".split(" ");
  let state = 1;
  const next = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >> 8) % below;
  };
  return Array.from({ length: count }, () => {
    const prompt = Array.from({ length: 3 + next(6) }, () => words[next(words.length)]).join(" ");
    return `${JSON.stringify({ prompt })}\n`;
  });
}

function submit(score: string[]) {
  const settings = [
    "spark.executor.memory=512m",
    `spark.driver.extraJavaOptions=${SHORT_LIVED.join(" ")}`,
    `spark.executor.extraJavaOptions=${SHORT_LIVED.join(" ")}`,
    "spark.ui.enabled=false",
    "spark.eventLog.enabled=true",
    `spark.eventLog.dir=file://${join(folder, "events")}`,
    "spark.eventLog.rolling.enabled=false",
    "spark.eventLog.compress=false",
  ].flatMap((setting) => ["--conf", setting]);
  const master = ["--master", "local-cluster[2,1,512]"];
  const job = [JOB, join(folder, "rows.jsonl"), join(folder, "judged"), "--partitions", String(PARTITIONS)];
  const command = ["--command", [process.execPath, MAIN, ...score].join(" ")];
  let log = "";
  child = spawn(SUBMIT, [...master, ...settings, ...job, ...command], {
    cwd: folder,
    env: { ...process.env, SPARK_LOCAL_IP: "127.0.0.1", PYSPARK_PYTHON: PYTHON },
    stdio: ["ignore", "ignore", "pipe"],
  });
  child.stderr?.setEncoding("utf8").on("data", (text) => {
    log = (log + text).slice(-20_000);
  });
  return { ended: once(child, "close"), log: () => log };
}

/** The process of an executor that has one of ours at work. */
async function busyExecutor(driver: number): Promise<number> {
  for (;;) {
    if (child?.exitCode !== null) throw new Error("Spark ended before it had begun.");
    for (const executor of await under(driver, (command) =>
      command.includes("CoarseGrainedExecutorBackend"),
    )) {
      const ours = await under(executor, (command) => command.includes(MAIN) && command.includes("score"));
      if (ours.length > 0) return executor;
    }
    // A look at a JVM's hundred threads takes its time.
    await new Promise((resolve) => setTimeout(resolve, 600));
  }
}

/** The nearest processes that descend from this one and whose command line is such. */
async function under(pid: number, wanted: (command: string) => boolean): Promise<number[]> {
  const found: number[] = [];
  for (const thread of await readdir(`/proc/${pid}/task`).catch(() => [])) {
    const children = await readFile(`/proc/${pid}/task/${thread}/children`, "utf8").catch(() => "");
    for (const child of children.split(" ").filter(Boolean).map(Number)) {
      const command = await readFile(`/proc/${child}/cmdline`, "utf8").catch(() => "");
      found.push(...(wanted(command) ? [child] : await under(child, wanted)));
    }
  }
  return found;
}

async function outcome(): Promise<string> {
  const parts = (await readdir(join(folder, "judged"))).filter((name) => name.startsWith("part-")).sort();
  const texts = await Promise.all(parts.map((name) => readFile(join(folder, "judged", name), "utf8")));
  return texts.join("");
}

/** Tasks that ended because their executor did. */
async function lostTasks(): Promise<number> {
  const [file] = await readdir(join(folder, "events"));
  const events = (await readFile(join(folder, "events", file), "utf8")).trimEnd().split("\n");
  return events
    .map((event) => JSON.parse(event))
    .filter((event) => event["Task End Reason"]?.Reason === "ExecutorLostFailure").length;
}
