import { cudaKind } from "./cuda/kind.js";
import type { DeviceKind } from "./kind.js";

const cpuKind: DeviceKind = {
  title: "The CPU",
  graph: {
    // Its attention and norms have float32 kernels alone.
    formats: { fp32: "float32", int8: "float32", w8a8: "float32", int4: "float32" },
    usualFormat: "fp32",
    fusedQkNorm: false,
    asksForOutputs: true,
  },
  problem: () => null,
  report: () => "usable",
  runtimeLibrary: () => null,
};

/** Every kind of device there is, by the name users give it. A new one is a folder, a line here and one in open.ts. */
export const DEVICE_KINDS = { cpu: cpuKind, cuda: cudaKind } as const satisfies Record<string, DeviceKind>;

export type DeviceKindName = keyof typeof DEVICE_KINDS;

export const DEVICE_KIND_NAMES = Object.keys(DEVICE_KINDS) as DeviceKindName[];

/** The kinds that may serve a model better than the CPU, which serves every one. */
export const ACCELERATORS = DEVICE_KIND_NAMES.filter((name) => name !== "cpu");
