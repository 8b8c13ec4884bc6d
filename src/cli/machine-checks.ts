import { readFile } from "node:fs/promises";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import type { RecordingReport } from "../engine/recording.js";
import { GuardError } from "../errors.js";
import type { Guard } from "../guard.js";
import { modelCache } from "../model/model-cache.js";
import { ortApi } from "../runtime/api.js";
import { ACCELERATORS, DEVICE_KINDS } from "../runtime/devices/kinds.js";
import { loadModel, type ModelOptions } from "./model-options.js";

export interface Check {
  name: string;
  ok: boolean;
  detail: string;
}

/** Instruction sets that the fast CPU kernels use, as /proc/cpuinfo names them. */
const CPU_FEATURES = ["avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"];

/** What this machine has, and whether the guard runs on it. */
export async function checkMachine(options: ModelOptions): Promise<Check[]> {
  return [
    await checkNode(),
    await checkCpu(),
    checkMemory(),
    checkRuntime(),
    // Without a GPU all works, but slower: that is no failure.
    ...ACCELERATORS.map((name) => DEVICE_KINDS[name]).map((kind) => ({
      name: kind.title,
      ok: true,
      detail: kind.report(),
    })),
    await checkModel(options),
  ];
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

function checkRuntime(): Check {
  try {
    const { version, libraryPath } = ortApi();
    return { name: "ONNX Runtime", ok: true, detail: `${version}, ${libraryPath}` };
  } catch (error) {
    return { name: "ONNX Runtime", ok: false, detail: problem(error) };
  }
}

async function checkModel(options: ModelOptions): Promise<Check> {
  try {
    const guard = await loadModel(options);
    try {
      return { name: "Model", ok: true, detail: await describe(guard, options) };
    } finally {
      await guard.close();
    }
  } catch (error) {
    return { name: "Model", ok: false, detail: problem(error) };
  }
}

async function describe(guard: Guard, options: ModelOptions): Promise<string> {
  const stream = guard.stream({ messages: [{ role: "user", content: "How do I bake bread?" }] });
  const started = performance.now();
  const verdict = await stream.prompt;
  const elapsed = performance.now() - started;
  stream.close();
  const { device, maxStreams, maxTokens, manifest, recording } = guard;
  return (
    `${options.model ?? "embedded default"}, ${manifest.dtype} on ${device}${whyCpu(device, options)}, ` +
    `${maxStreams} streams of ${maxTokens} tokens; judged a prompt ${verdict?.risk} in ${elapsed.toFixed(1)} ms; ` +
    `${recording ? recordingText(recording) : ""}` +
    `exports are kept in ${modelCache()}`
  );
}

/** How steps are recorded, and which ways of it failed. */
function recordingText({
  mode,
  steps,
  distance,
  failed,
  freeBytes: [before, after],
}: RecordingReport): string {
  const failures = failed.map((way) => `; ${way.mode} failed (${way.problem})`).join("");
  if (mode === null) return `steps are not recorded${failures}; `;
  return (
    `${steps} steps recorded (${mode}) in ${((before - after) / 2 ** 20).toFixed(0)} MiB, ` +
    `${distance?.toPrecision(2)} from unrecorded ones${failures}; `
  );
}

/** Why auto did not take a GPU that could be used. */
function whyCpu(device: string, options: ModelOptions): string {
  const usable = ACCELERATORS.some((name) => DEVICE_KINDS[name].problem() === null);
  if (device !== "cpu" || options.device !== "auto" || !usable) return "";
  return " (auto: small models, and those exported for the CPU, run there)";
}

function problem(error: unknown): string {
  return error instanceof GuardError ? `[${error.code}] ${error.message}` : String(error);
}

function gibibytes(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(1);
}
