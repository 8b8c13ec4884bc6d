import type { DeviceError } from "../../errors.js";
import type { ElementType } from "../tensor.js";

/** What is known of a kind of device before one of them is opened: nothing of this loads ONNX Runtime. */
export interface DeviceKind {
  /** For messages and reports: "CUDA". */
  readonly title: string;
  /** What its kernels ask of a graph that is exported for it. */
  readonly graph: GraphTraits;
  /** Why it cannot be used here, with what to do about it; null where it can. */
  problem(): DeviceError | null;
  /** What of it this machine has, on one line. */
  report(): string;
  /** An ONNX Runtime that must be loaded in place of the installed package's, so that it finds what this kind needs. */
  runtimeLibrary(): string | null;
}

/** @see DeviceKind */
export interface GraphTraits {
  /** Formats of weights, by the name that `--dtype` gives them, and the type activations have with each. */
  readonly formats: Readonly<Record<string, Extract<ElementType, "float32" | "float16" | "bfloat16">>>;
  /** The format where nobody names one; small models and large ones alike. */
  readonly usualFormat: string;
  /** GroupQueryAttention normalizes q and k itself. */
  readonly fusedQkNorm: boolean;
  /** A run may say of how many of its last tokens it wants outputs: shapes that hang on numbers cost nothing. */
  readonly asksForOutputs: boolean;
}
