import { InputError } from "../errors.js";
import { BlockwiseWeights } from "./blockwise.js";
import { DenseWeights } from "./dense.js";
import { type Device, DTYPES, type Dtype } from "./manifest.js";
import type { Target } from "./qwen3.js";
import { RowwiseWeights } from "./rowwise.js";
import type { WeightFormat, WeightSource } from "./weights.js";

/** @throws {InputError} UNKNOWN_DTYPE, UNKNOWN_DEVICE, DTYPE_NEEDS_CUDA, DTYPE_NEEDS_CPU */
export function chooseTarget(dtype: Dtype, device: Device): Target {
  if (!DTYPES.includes(dtype)) {
    throw new InputError("UNKNOWN_DTYPE", `Unknown dtype "${dtype}". Choose one of ${DTYPES.join(", ")}.`);
  }
  if (device !== "cpu" && device !== "cuda") {
    throw new InputError("UNKNOWN_DEVICE", `Unknown device "${device}". Choose cpu or cuda.`);
  }
  if (device === "cuda") {
    if (dtype === "fp32") {
      throw new InputError(
        "DTYPE_NEEDS_CPU",
        "CUDA's attention kernel takes 16-bit types alone: choose bf16, fp16, int8 or int4.",
      );
    }
    if (dtype === "w8a8") {
      throw new InputError(
        "DTYPE_NEEDS_CPU",
        "w8a8 is for the CPU's integer kernels: for CUDA choose bf16, fp16, int8 or int4.",
      );
    }
    return { activation: dtype === "fp16" ? "float16" : "bfloat16", fusedQkNorm: true };
  }
  if (dtype === "bf16" || dtype === "fp16") {
    throw new InputError(
      "DTYPE_NEEDS_CUDA",
      `The CPU's kernels do not take ${dtype}. Choose fp32, int8, w8a8 or int4, or export with --device cuda.`,
    );
  }
  return { activation: "float32", fusedQkNorm: false };
}

export function createWeights(source: WeightSource, dtype: Dtype, target: Target): WeightFormat {
  switch (dtype) {
    case "int8":
      return new BlockwiseWeights(source, 8, target.activation);
    case "int4":
      return new BlockwiseWeights(source, 4, target.activation);
    case "w8a8":
      return new RowwiseWeights(source);
    default:
      return new DenseWeights(source, target.activation);
  }
}
