import { readFile } from "node:fs/promises";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { Command } from "commander";
import { GuardError } from "../../errors.js";
import { modelCache } from "../../export/resolve.js";
import { loadGuard } from "../../moderation/guard.js";
import { ortApi } from "../../ort/api.js";
import { createTerminal } from "../terminal.js";

interface Check {
  name: string;
  ok: boolean;
  detail: string;
}

/** Instruction sets that the fast CPU kernels use, as /proc/cpuinfo names them. */
const CPU_FEATURES = ["avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"];

export function doctorCommand(): Command {
  return new Command("doctor")
    .summary("show what this machine has, and whether the guard runs")
    .description(
      "Shows Node, processor, ONNX Runtime, memory and model, and judges a sentence to see that it works.",
    )
    .option("--model <model>", "exported model, checkpoint folder or hub id (default: the embedded one)")
    .option("--json", "one JSON object instead of text")
    .addHelpText("after", "\nExamples:\n  $ qwen3guard doctor\n  $ qwen3guard doctor --model ./guard --json")
    .action(async ({ model, json }: { model?: string; json?: boolean }) => {
      const checks = [
        await checkNode(),
        await checkCpu(),
        checkMemory(),
        ...checkRuntime(),
        await checkModel(model),
      ];
      if (json)
        process.stdout.write(
          `${JSON.stringify(Object.fromEntries(checks.map(({ name, ...rest }) => [name, rest])))}\n`,
        );
      else print(checks);
      if (checks.some(({ ok }) => !ok)) process.exitCode = 1;
    });
}

function print(checks: Check[]): void {
  const { colors } = createTerminal(process.stdout);
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const { name, ok, detail } of checks) {
    const mark = ok ? colors.green("✓") : colors.red("✗");
    process.stdout.write(`${mark} ${name.padEnd(width)}  ${detail}\n`);
  }
}

async function checkNode(): Promise<Check> {
  const [major, minor] = process.versions.node.split(".").map(Number);
  const ok = major > 20 || (major === 20 && minor >= 19);
  const detail = `${process.version} on ${process.platform}-${process.arch}`;
  return { name: "Node", ok, detail: ok ? detail : `${detail}: 20.19 or later is needed` };
}

async function checkCpu(): Promise<Check> {
  const info = await readFile("/proc/cpuinfo", "utf8").catch(() => "");
  const flags = new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(info)?.[1].split(" "));
  const features = CPU_FEATURES.filter((feature) => flags.has(feature));
  const known = info ? features.join(" ") || "none of the fast ones" : "unknown on this platform";
  return {
    name: "CPU",
    ok: true,
    detail: `${cpus()[0]?.model.trim() ?? "unknown"}, ${availableParallelism()} cores, features: ${known}`,
  };
}

function checkMemory(): Check {
  return {
    name: "Memory",
    ok: true,
    detail: `${gibibytes(freemem())} GiB free of ${gibibytes(totalmem())} GiB`,
  };
}

function checkRuntime(): Check[] {
  try {
    const api = ortApi();
    const providers = api.availableProviders().map((name) => name.replace("ExecutionProvider", ""));
    return [
      { name: "ONNX Runtime", ok: true, detail: `${api.version}, ${api.libraryPath}` },
      {
        name: "Providers",
        ok: true,
        detail: `${providers.join(", ")} compiled in; this version runs on CPU`,
      },
    ];
  } catch (error) {
    return [{ name: "ONNX Runtime", ok: false, detail: problem(error) }];
  }
}

async function checkModel(model: string | undefined): Promise<Check> {
  try {
    const guard = await loadGuard(model);
    const stream = guard.stream({ messages: [{ role: "user", content: "How do I bake bread?" }] });
    const started = performance.now();
    const verdict = await stream.prompt;
    const elapsed = performance.now() - started;
    stream.close();
    const { dtype } = guard.manifest;
    const detail =
      `${model ?? "embedded default"}, ${dtype}, ${guard.maxStreams} streams of ${guard.maxTokens} tokens; ` +
      `judged a prompt ${verdict?.risk} in ${elapsed.toFixed(1)} ms; exports are kept in ${modelCache()}`;
    await guard.close();
    return { name: "Model", ok: true, detail };
  } catch (error) {
    return { name: "Model", ok: false, detail: problem(error) };
  }
}

function problem(error: unknown): string {
  return error instanceof GuardError ? `[${error.code}] ${error.message}` : String(error);
}

function gibibytes(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(1);
}
