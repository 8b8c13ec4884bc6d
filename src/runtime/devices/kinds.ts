import { cudaKind } from "./cuda/kind.js";
import type { DeviceKind } from "./kind.js";
import type { DeviceKindName } from "./kind-names.js";

export { ACCELERATORS, DEVICE_KIND_NAMES, type DeviceKindName } from "./kind-names.js";

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

/** A new one is a folder, a name in kind-names.ts, a line here and one in open.ts. */
export const DEVICE_KINDS = { cpu: cpuKind, cuda: cudaKind } as const satisfies Record<
  DeviceKindName,
  DeviceKind
>;
