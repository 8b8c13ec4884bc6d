import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { ortApi } from "../src/ort/api.js";

/** Where and with what a result was measured. */
export interface Machine {
  date: string;
  cpu: string;
  cores: number;
  features: string[];
  memoryGB: number;
  /** Processes that wanted a core in the last minute, before the measurement: above 0.5 the machine was shared. */
  loadBefore: number;
  node: string;
  onnxruntime: string;
  commit: string;
  command: string;
}

const FEATURES = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16"];

export function describeMachine(): Machine {
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0].model.trim(),
    cores: availableParallelism(),
    features: cpuFeatures(),
    memoryGB: Math.round(totalmem() / 2 ** 30),
    loadBefore: loadavg()[0],
    node: process.version,
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

function commit(): string {
  try {
    const git = (...args: string[]) => execFileSync("git", args, { encoding: "utf8" }).trim();
    const dirty = git("status", "--porcelain", "--untracked-files=no", "src") ? "+changes" : "";
    return git("rev-parse", "--short", "HEAD") + dirty;
  } catch {
    return "unknown";
  }
}
