import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { FloatType } from "../onnx/float.js";
import type { DeviceKindName } from "../runtime/devices/kind-names.js";
import type { GuardConfig } from "./config.js";
import type { Dtype } from "./dtypes.js";
import type { ModelOutput } from "./outputs.js";
import type { SelfTest } from "./self-test.js";

export { DTYPES, type Dtype } from "./dtypes.js";

export type Device = DeviceKindName;

/** Element type of the KV cache by that of the activations; a CPU's may be int8 instead. */
export const KV_CACHES = { float32: "fp32", bfloat16: "bf16", float16: "fp16" } as const;

export const MANIFEST_FILE = "guard.json";
export const MODEL_FILE = "model.onnx";
export const WEIGHTS_FILE = "model.onnx.data";
/** The same model over the same weights, for a run that brings several branches of one row. Not every model has one. */
export const BRANCHES_FILE = "branches.onnx";

/** Raised whenever reader and exporter of different versions could misread each other. */
export const FORMAT = 2;

/** Raised whenever a checkpoint's graph becomes a better one: exports in the cache are made anew, others go on as they are. */
export const GRAPH = 3;

/** How far a format's verdicts are from those of fp32 on the same conversations. */
export interface Comparison {
  /** Prompts and response tokens judged by both. */
  verdicts: number;
  /** Share of verdicts with the same risk label, 0 to 1. */
  riskAgreement: number;
  /** Share with the same category, among the verdicts that fp32 has one for. */
  categoryAgreement: number;
  /** Largest change of any risk label's probability, 0 to 1. */
  largestChange: number;
  /** Mean change of the risk labels' probabilities, 0 to 1. */
  meanChange: number;
}

/** guard.json: what an exported model directory holds. */
export interface Manifest {
  format: number;
  /** Name and version of the exporter. */
  exporter: string;
  dtype: Dtype;
  /** Element type of the KV cache. */
  kvCache: (typeof KV_CACHES)[FloatType] | "int8";
  /**
   * Whether sums of two neighbouring products fit 16 bits, so that the fast byte kernels of any processor are exact. True for
   * w8a8, absent for all else and in early exports of w8a8.
   */
  sumsFit16Bits?: true;
  /** The execution provider the graph was built for. */
  device: Device;
  config: GuardConfig;
  /** Width of a head in the KV cache: the model's own, or more where the kernel wants padding. */
  cachedHeadSize: number;
  /** What the graph gives beside the cache. */
  outputs: ModelOutput[];
  /** SHA-256, in hex, of the checkpoint's files. */
  sources: Record<string, string>;
  /** Size in bytes of the folder's other files. */
  files: Record<string, number>;
  /** SHA-256, in hex, of the same files. */
  hashes: Record<string, string>;
  /** What the model says of a short conversation; a guard's has one. */
  selfTest?: SelfTest;
  /** What the format costs against fp32, where `export --verify` measured it. */
  comparison?: Comparison;
  /** SHA-256, in hex, of all of the above: guard.json is written by the exporter, and edited by nobody. */
  digest: string;
}

/** SHA-256 of a manifest's content, whatever its layout as text. */
export function manifestDigest({ digest: _, ...content }: Partial<Manifest>): string {
  return createHash("sha256").update(JSON.stringify(content)).digest("hex");
}

/** Writes guard.json, and gives it back as it will be read. */
export async function writeManifest(
  dir: string,
  content: Omit<Manifest, "format" | "digest">,
): Promise<Manifest> {
  const manifest = { format: FORMAT, ...content };
  const sealed = { ...manifest, digest: manifestDigest(manifest) };
  await writeFile(join(dir, MANIFEST_FILE), `${JSON.stringify(sealed, null, 2)}\n`);
  return sealed;
}
