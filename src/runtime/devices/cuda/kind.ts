import { DeviceError } from "../../../errors.js";
import type { DeviceKind } from "../kind.js";
import { chipProblem, inspectCuda, runtimeCopy } from "./files.js";
import { cudaText } from "./report.js";

export const cudaKind: DeviceKind = {
  title: "CUDA",
  graph: {
    // Attention takes the 16-bit types alone.
    formats: { bf16: "bfloat16", fp16: "float16", int8: "bfloat16", int4: "bfloat16" },
    usualFormat: "bf16",
    fusedQkNorm: true,
    asksForOutputs: false,
  },
  problem() {
    const { problem, driver } = inspectCuda();
    if (problem === null) return null;
    const chip = driver.devices.length > 0 && problem === chipProblem(driver.devices);
    return new DeviceError(chip ? "GPU_UNSUPPORTED" : "CUDA_UNAVAILABLE", problem);
  },
  report: () => cudaText(inspectCuda()),
  // It looks for providers in its own folder.
  runtimeLibrary: runtimeCopy,
};
