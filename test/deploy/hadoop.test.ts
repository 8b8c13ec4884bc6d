import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { MAIN, runCli } from "../support/cli.js";
import { SHORT_LIVED } from "../support/java.js";
import { randomModel, temporaryFolder } from "../support/model.js";

/** Hadoop streaming's jar, as `.ci/run` brings it. PySpark has the rest of Hadoop. */
const STREAMING = process.env.QWEN3GUARD_HADOOP ?? "";
const PYSPARK = join(process.env.QWEN3GUARD_PYSPARK ?? "", "lib");
const INSTALLED = existsSync(STREAMING) && existsSync(PYSPARK);

test.runIf(process.env.CI)("CI has Hadoop streaming", () => expect(INSTALLED).toBe(true));

test.skipIf(!INSTALLED)(
  "Hadoop streaming writes the lines that one process writes, from several mappers",
  { timeout: 300_000 },
  async () => {
    const rows = Array.from({ length: 300 }, (_, i) =>
      JSON.stringify({ prompt: `How do I bake bread ${i}?` }),
    );
    // What Hadoop takes for a key and a value, what it would end lines with, and what has no verdict.
    rows.splice(100, 0, '{"prompt":\t"a bomb"}', "", "no JSON\t", '{"messages": []}');
    const folder = await temporaryFolder();
    const input = rows.map((row) => `${row}\n`).join("");
    await writeFile(join(folder, "rows.jsonl"), input);
    const { modelDir } = await randomModel({ config: {}, dtype: "BF16" });
    const score = ["score", "--threads", "1", "--allow-errors", "all", "--model", modelDir];
    const alone = await runCli(score, { input });
    expect(alone.code).toBe(0);

    const [python] = (await readdir(PYSPARK)).filter((name) => name.startsWith("python3"));
    const jars = [STREAMING, join(PYSPARK, python, "site-packages/pyspark/jars/*")].join(":");
    const settings = [
      "mapreduce.job.reduces=0",
      "stream.map.output=keyonlytext",
      "fs.local.block.size=4096",
      `hadoop.tmp.dir=${join(folder, "hadoop")}`,
    ].flatMap((setting) => ["-D", setting]);
    const paths = ["-input", join(folder, "rows.jsonl"), "-output", join(folder, "judged")];
    const mapper = ["-mapper", [process.execPath, MAIN, ...score].join(" ")];
    const job = [
      ...SHORT_LIVED,
      "-cp",
      jars,
      "org.apache.hadoop.streaming.HadoopStreaming",
      ...settings,
      ...paths,
      ...mapper,
    ];
    const { status, stderr } = spawnSync("java", job, {
      cwd: folder,
      encoding: "utf8",
    });
    expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
    const parts = (await readdir(join(folder, "judged"))).filter((name) => name.startsWith("part-"));
    const texts = await Promise.all(parts.map((name) => readFile(join(folder, "judged", name), "utf8")));
    expect(texts.length).toBeGreaterThan(1);
    // Hadoop numbers its parts by their size. Within each the order is kept.
    const inOrder = texts.sort((a, b) => alone.stdout.indexOf(a) - alone.stdout.indexOf(b));
    expect(inOrder.join("")).toBe(alone.stdout);
  },
);
