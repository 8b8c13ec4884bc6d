import { type Command, InvalidArgumentError, Option } from "commander";
import type { LoadProgress } from "../engine/engine.js";
import type { GenGuard } from "../gen-guard.js";
import type { Guard, LoadOptions } from "../guard.js";
import { DTYPES, type Dtype } from "../model/dtypes.js";
import { type DeviceName, parseDevice } from "../runtime/devices/device-id.js";
import { whole } from "./numbers.js";
import { StageProgress } from "./stage-progress.js";
import { createTerminal } from "./terminal.js";

/** Which guard a command runs. */
export interface ModelOptions {
  model?: string;
  device: DeviceName;
  dtype?: Dtype;
  threads?: number;
  maxTokens?: number;
  maxWindows?: number;
}

/** The options by which all commands that run a guard name it. */
export function addModelOptions(command: Command): Command {
  return command
    .option("--model <model>", "exported model, checkpoint folder or hub id (default: the embedded one)")
    .addOption(
      new Option("--device <device>", "where to run: auto, cpu, cuda, or cuda:1 for the second GPU")
        .default("auto")
        .argParser(device),
    )
    .addOption(
      new Option("--dtype <type>", "format, when a checkpoint is exported on first use").choices(DTYPES),
    )
    .addOption(
      new Option("--threads <n>", "of the processor, for a step (default: one a core, 8 at most)").argParser(
        whole(1, 1024),
      ),
    )
    .addOption(
      new Option("--max-tokens <n>", "that a conversation and its answer take at once")
        .default(undefined, "the model's context; of a Gen guard 8192, or that if it is less")
        .argParser(whole(1, 1 << 20)),
    )
    .addOption(
      new Option(
        "--max-windows <n>",
        "of the model's context, in which longer texts are judged at most; 1 refuses them",
      )
        .default(undefined, "8")
        .argParser(whole(1, 1024)),
    );
}

/**
 * Loads a guard of either kind, for what both can do; the embedded one is a Stream guard.
 *
 * @throws as `loadGuard` and `loadGenGuard`
 */
export async function loadAnyModel(
  options: ModelOptions,
  { signal, ...others }: Pick<LoadOptions, "maxStreams" | "signal"> = {},
): Promise<Guard | GenGuard> {
  const { model, device, dtype, threads, maxTokens } = options;
  if (model === undefined) return loadModel(options, { signal, ...others });
  const [{ resolveModel }, { readManifest }] = await Promise.all([
    import("../resolve-model.js"),
    import("../model/read-manifest.js"),
  ]);
  const progress = new StageProgress(createTerminal(process.stderr));
  const onProgress: LoadProgress = (stage, done, total) => progress.update(stage, done, total);
  const dir = await resolveModel(model, { device, dtype, signal, onProgress }).finally(() => progress.stop());
  if ((await readManifest(dir)).config.kind !== "gen") {
    return loadModel({ ...options, model: dir }, { signal, ...others });
  }
  const { loadGenGuard } = await import("../gen-guard.js");
  return loadGenGuard(dir, { device, dtype, threads, maxTokens, signal, ...others });
}

/** Loads the guard, with progress on standard error for what takes long. @throws as `loadGuard` */
export async function loadModel(
  { model, device, dtype, threads, maxTokens, maxWindows }: ModelOptions,
  options: Pick<LoadOptions, "maxStreams" | "readAhead" | "signal"> = {},
): Promise<Guard> {
  const { loadGuard } = await import("../guard.js");
  const progress = new StageProgress(createTerminal(process.stderr));
  return loadGuard(model, {
    device,
    dtype,
    threads,
    maxTokens,
    maxWindows,
    ...options,
    onProgress: (stage, done, total) => progress.update(stage, done, total),
  }).finally(() => progress.stop());
}

function device(name: string): DeviceName {
  try {
    parseDevice(name);
    return name as DeviceName;
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}
