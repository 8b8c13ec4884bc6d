import { join } from "node:path";
import { DeviceError, InputError, ModelError } from "../errors.js";
import { BRANCHES_FILE, type Manifest, MODEL_FILE } from "../model/manifest.js";
import { CPU, type DeviceId, type DeviceName, parseDevice } from "../runtime/devices/device-id.js";
import { openDevice } from "../runtime/devices/open.js";
import { mustWidenBytes } from "../runtime/integer-kernels.js";
import { Session } from "../runtime/session.js";
import { MOST_KEPT, weightBytes } from "./costs.js";

/** A model directory, and where it is to run. */
export interface SessionSource {
  dir: string;
  manifest: Manifest;
  deviceId: DeviceId;
  threads: number;
}

/** @throws {DeviceError} ORT_NOT_FOUND, KERNEL_INEXACT, CUDA_UNAVAILABLE, CUDA_ERROR, NODE_ON_CPU; @throws {ModelError} MODEL_NOT_LOADED */
export function openSession(source: SessionSource): Promise<Session> {
  return open(source, MODEL_FILE, true);
}

/** Whether a model has a graph for runs of several branches. */
export function hasBranches({ files }: Manifest): boolean {
  return Object.hasOwn(files, BRANCHES_FILE);
}

/**
 * The session of that graph. Large weights stay mapped as they lie in the file, so that it has next to no memory of its own.
 *
 * @param requireUnchanged asked before native code reads the files, and once it has
 * @throws as `openSession`; what `requireUnchanged` throws
 */
export async function openBranches(
  source: SessionSource,
  requireUnchanged: () => Promise<void>,
): Promise<Session> {
  await requireUnchanged();
  const session = await open(source, BRANCHES_FILE, weightBytes(source.manifest) < MOST_KEPT);
  try {
    await requireUnchanged();
    return session;
  } catch (error) {
    session.release();
    throw error;
  }
}

async function open(
  { dir, manifest, deviceId, threads }: SessionSource,
  file: string,
  prepack: boolean,
): Promise<Session> {
  const widenBytes = manifest.dtype === "w8a8" && (await mustWidenBytes(manifest.sumsFit16Bits));
  try {
    return await Session.load(join(dir, file), {
      device: await openDevice(deviceId),
      threads,
      widenBytes,
      prepack,
      // Over an int8 cache the kernel without tiling is the faster one for single tokens (bench/results).
      flashAttention: manifest.kvCache !== "int8",
    });
  } catch (cause) {
    if (cause instanceof DeviceError && cause.code !== "ORT_ERROR") throw cause;
    throw new ModelError(
      "MODEL_NOT_LOADED",
      `ONNX Runtime cannot load ${join(dir, file)}: ${(cause as Error).message}. Export the model again.`,
      { cause },
    );
  }
}

/** @throws {InputError} UNKNOWN_DEVICE, DEVICE_MISMATCH */
export function chooseDevice(dir: string, { device }: Manifest, name: DeviceName): DeviceId {
  const asked = parseDevice(name);
  if (asked === "auto") return device === CPU.kind ? CPU : { kind: device, index: 0 };
  if (asked.kind === device) return asked;
  throw new InputError(
    "DEVICE_MISMATCH",
    `${dir} was exported for ${device}, and its graph does not run on ${name}. ` +
      `Name the checkpoint, or export it with --device ${asked.kind}.`,
  );
}
