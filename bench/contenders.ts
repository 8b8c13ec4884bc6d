/**
 * The same work done otherwise, in turns with us: onnxruntime-node's own JavaScript API (which hands the whole cache out
 * and in again), re-running the whole sequence for each token, and, where QWEN3GUARD_PYTHON names a Python with
 * bench/peers/requirements.txt installed, PyTorch in bfloat16 with a cache and re-running everything, as the released
 * code does.
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadBenchGuard } from "./guard.js";
import { benchIds, benchModel, parseFormat } from "./model.js";
import { JsApi } from "./peers/js-api.js";
import { report } from "./report.js";
import { summarize, time } from "./stats.js";

const { values } = parseArgs({
  options: {
    formats: { type: "string", default: "int4,w8a8" },
    contexts: { type: "string", default: "100,1000" },
    steps: { type: "string", default: "30" },
    only: { type: "string" },
  },
});
const contexts = values.contexts.split(",").map(Number);
const steps = Number(values.steps);

if (values.only) console.log(`RESULT ${JSON.stringify(await contend(values.only))}`);
else {
  const results: Record<string, unknown> = {};
  const runs = values.formats.split(",").flatMap((format) => [`ours:${format}`, `js-api:${format}`]);
  runs.push("rerun:w8a8");
  if (process.env.QWEN3GUARD_PYTHON) runs.push("torch:cached", "torch:rerun");
  for (const run of runs) {
    const out = run.startsWith("torch:")
      ? execFileSync(
          process.env.QWEN3GUARD_PYTHON as string,
          [
            fileURLToPath(new URL("peers/torch_bench.py", import.meta.url)),
            run.slice(6),
            values.contexts,
            values.steps,
          ],
          { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] },
        )
      : execFileSync(
          process.execPath,
          [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2), "--only", run],
          { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] },
        );
    results[run] = JSON.parse(/^RESULT (.*)$/m.exec(out)![1]);
    console.log(run, JSON.stringify(results[run]));
    report("contenders", { contexts, results });
  }
}

async function contend(run: string) {
  const [who, format] = run.split(":");
  const dir = await benchModel(parseFormat(format));
  const perToken: Record<number, unknown> = {};
  const promptMs: Record<number, unknown> = {};
  if (who === "js-api") {
    const api = await JsApi.load(dir);
    for (const context of contexts) {
      await api.prefill(context);
      perToken[context] = summarize(await time(Math.min(steps, 10), 2, () => api.step()));
    }
    return { perToken };
  }
  const { guard } = await loadBenchGuard(dir, { maxStreams: 1, maxTokens: 2200 });
  const prompt = async (length: number, seed: number) => {
    const stream = guard.stream({ promptIds: benchIds(length, seed) });
    await stream.prompt;
    stream.close();
  };
  for (const context of contexts) {
    if (who === "rerun") {
      perToken[context] = summarize(await time(5, 1, (i) => prompt(context, i)));
      continue;
    }
    const stream = guard.stream({ promptIds: benchIds(context) });
    await stream.prompt;
    perToken[context] = summarize(await time(steps, 8, (i) => stream.push(benchIds(1, i))));
    stream.close();
  }
  if (who === "ours") {
    for (const length of [100, 500]) promptMs[length] = summarize(await time(5, 1, (i) => prompt(length, i)));
  }
  await guard.close();
  return { perToken, promptMs };
}
