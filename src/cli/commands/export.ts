import { Command, Option } from "commander";
import { DTYPES, type Dtype } from "../../model/dtypes.js";
import type { Comparison, Device } from "../../model/manifest.js";
import { DEVICE_KIND_NAMES } from "../../runtime/devices/kind-names.js";
import { interruptSignal } from "../interrupt.js";
import { StageProgress } from "../stage-progress.js";
import { createTerminal, visibleLine } from "../terminal.js";

interface Options {
  dtype?: Dtype;
  device: Device;
  kvCache?: "fp32" | "int8";
  verify?: boolean;
}

const EXAMPLES = `
Formats:
  fp32   exact, four bytes a weight                         CPU
  int8   one byte a weight, a scale for each block          CPU, CUDA
  w8a8   int8 weights and activations: prompts, batches     CPU
  int4   half a byte a weight, the smallest                 CPU, CUDA
  bf16   as the checkpoint itself, fp16 likewise            CUDA

An int8 cache takes a quarter of the memory and makes tokens late in a long conversation cheaper. Its ranges are
measured on sample conversations while exporting.

Examples:
  $ qwen3guard export ./Qwen3Guard-Stream-0.6B ./guard --dtype int8
  $ qwen3guard export Qwen/Qwen3Guard-Stream-0.6B ./guard --dtype int8     fetches it first
  $ qwen3guard export ./Qwen3Guard-Stream-0.6B ./guard --dtype int4 --verify
  $ qwen3guard scan --model ./guard --prompt "Hi" < answer.txt`;

export function exportCommand(): Command {
  return new Command("export")
    .summary("convert a checkpoint for ONNX Runtime")
    .description(
      "Converts a checkpoint of Qwen3Guard-Stream or Qwen3Guard-Gen (safetensors, Hugging Face layout) into a folder that ONNX Runtime " +
        "loads in less than a second. The folder appears only when it is complete.",
    )
    .argument("<checkpoint>", "checkpoint folder, or a hub id")
    .argument("<out>", "folder to create")
    .addOption(
      new Option("--dtype <type>", "format of the weights")
        .choices(DTYPES)
        .default(undefined, "fp32; bf16 for CUDA"),
    )
    .addOption(
      new Option("--device <device>", "whose kernels the graph is for")
        .choices(DEVICE_KIND_NAMES)
        .default("cpu"),
    )
    .addOption(
      new Option("--kv-cache <type>", "element type of the KV cache on the CPU")
        .choices(["fp32", "int8"])
        .default(undefined, "fp32"),
    )
    .option("--verify", "compare the verdicts with fp32's on sample conversations, and keep the outcome")
    .addHelpText("after", EXAMPLES)
    .action(exportCheckpoint);
}

async function exportCheckpoint(checkpoint: string, out: string, options: Options): Promise<void> {
  const { convertCheckpoint } = await import("../../calibration/convert-checkpoint.js");
  const signal = interruptSignal();
  const progress = new StageProgress(createTerminal(process.stderr));
  try {
    const dir = await folderOf(checkpoint, signal, progress);
    const started = performance.now();
    const manifest = await convertCheckpoint(dir, out, {
      ...options,
      signal,
      onProgress: (stage, done, total) => progress.update(stage, done, total),
    });
    progress.stop();
    const megabytes = Object.values(manifest.files).reduce((sum, bytes) => sum + bytes, 0) / 1e6;
    const seconds = (performance.now() - started) / 1000;
    process.stdout.write(
      `${visibleLine(out)}: ${manifest.dtype} for ${manifest.device}, ${manifest.kvCache} cache, ` +
        `${megabytes.toFixed(0)} MB in ${seconds.toFixed(1)} s\n`,
    );
    if (manifest.comparison) process.stdout.write(describe(manifest.comparison));
  } finally {
    progress.stop();
  }
}

/** The checkpoint's folder; of a hub id that in the hub's cache, fetched where it is not there. */
async function folderOf(checkpoint: string, signal: AbortSignal, progress: StageProgress): Promise<string> {
  const { cachedCheckpoint, isHubId, pull } = await import("../../download/hub.js");
  if (!isHubId(checkpoint)) return checkpoint;
  const onProgress = (_file: string, done: number, total: number) => progress.update("fetch", done, total);
  return (await cachedCheckpoint(checkpoint)) ?? pull(checkpoint, { signal, onProgress });
}

function describe(comparison: Comparison): string {
  const percent = (share: number) => `${(100 * share).toFixed(share === 1 ? 0 : 2)} %`;
  return (
    `Against fp32, on ${comparison.verdicts} verdicts of sample conversations: risk label the same in ` +
    `${percent(comparison.riskAgreement)}, category in ${percent(comparison.categoryAgreement)}; a probability ` +
    `changed by ${comparison.largestChange.toFixed(4)} at most, ${comparison.meanChange.toFixed(5)} on average.\n`
  );
}
