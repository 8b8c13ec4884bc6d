import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { ortApi } from "../src/runtime/api.js";

/** Where and with what a result was measured. */
export interface Machine {
  date: string;
  cpu: string;
  cores: number;
  features: string[];
  /** What the processor has and ONNX Runtime was not shown (bench/older-processor). */
  hidden?: string[];
  memoryGB: number;
  /** Processes that wanted a core in the last minute, before the measurement: above 0.5 the machine was shared. */
  loadBefore: number;
  /** As nvidia-smi names them; empty where there is none. */
  gpus: Gpu[];
  node: string;
  package: string;
  onnxruntime: string;
  commit: string;
  command: string;
}

export interface Gpu {
  name: string;
  driver: string;
  memoryMB: number;
  powerLimitW: number;
}

const FEATURES = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16"];

/** The only one that ONNX Runtime is shown where its processor is to be an older one. */
const OLDER = "avx2";

/** Whether ONNX Runtime takes an older processor's kernels here. */
export const isOlder = process.env.OLDER_PROCESSOR_LIBRARY !== undefined;

export function describeMachine(): Machine {
  const features = cpuFeatures();
  const shown = features.filter((feature) => !isOlder || feature === OLDER);
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0].model.trim(),
    cores: availableParallelism(),
    features: shown,
    hidden: isOlder ? features.filter((feature) => !shown.includes(feature)) : undefined,
    memoryGB: Math.round(totalmem() / 2 ** 30),
    loadBefore: loadavg()[0],
    gpus: gpus(),
    node: process.version,
    package: packageVersion(),
    onnxruntime: ortApi().version,
    commit: commit(),
    command:
      `npm run bench -- ${process.argv[1].replace(/^.*\/bench\/|\.ts$/g, "")} ${process.argv.slice(2).join(" ")}`.trim(),
  };
}

function cpuFeatures(): string[] {
  try {
    const flags =
      /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1].trim().split(/\s+/) ?? [];
    return FEATURES.filter((feature) => flags.includes(feature));
  } catch {
    return [];
  }
}

function gpus(): Gpu[] {
  return nvidiaSmi("name,driver_version,memory.total,power.limit").map(([name, driver, memory, power]) => ({
    name,
    driver,
    memoryMB: Number(memory),
    powerLimitW: Number(power),
  }));
}

/** Megabytes of device memory in use, by all processes; undefined without an NVIDIA GPU. */
export function gpuMemoryMB(): number | undefined {
  const used = nvidiaSmi("memory.used");
  return used.length > 0 ? Number(used[0][0]) : undefined;
}

const started = processorTime();

/**
 * The share of the processor that a virtual machine's host withheld since the process began, in percent of what this
 * machine wanted: above a few, neighbours were measured too. Linux alone tells.
 */
export function stolenPercent(): number | undefined {
  const now = processorTime();
  if (!now || !started) return undefined;
  const stolen = now.stolen - started.stolen;
  const wanted = now.used - started.used + stolen;
  return wanted > 0 ? Math.round((1000 * stolen) / wanted) / 10 : 0;
}

function processorTime(): { used: number; stolen: number } | undefined {
  try {
    const [, ...columns] = readFileSync("/proc/stat", "utf8").split("\n", 1)[0].split(/\s+/);
    const [user, nice, system, , , irq, softirq, stolen] = columns.map(Number);
    return { used: user + nice + system + irq + softirq, stolen };
  } catch {
    return undefined;
  }
}

/** One row of values for each GPU. */
function nvidiaSmi(fields: string): string[][] {
  try {
    const format = "--format=csv,noheader,nounits";
    const out = execFileSync("nvidia-smi", [`--query-gpu=${fields}`, format], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    return out
      .trim()
      .split("\n")
      .map((line) => line.split(",").map((field) => field.trim()));
  } catch {
    return [];
  }
}

function packageVersion(): string {
  return JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version;
}

function commit(): string {
  try {
    const git = (...args: string[]) => execFileSync("git", args, { encoding: "utf8", stdio: "pipe" }).trim();
    const dirty = git("status", "--porcelain", "--untracked-files=no", "src", "bench/*.ts") ? "+changes" : "";
    return git("rev-parse", "--short", "HEAD") + dirty;
  } catch {
    return process.env.QWEN3GUARD_COMMIT ?? "unknown"; // packed for a box without git
  }
}
