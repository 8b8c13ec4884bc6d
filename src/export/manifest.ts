import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { GuardConfig } from "../checkpoint/config.js";
import { ModelError } from "../errors.js";
import { DEVICE_KIND_NAMES, type DeviceKindName } from "../ort/devices/kinds.js";
import { type ModelOutput, POSITIONS } from "./outputs.js";

/** Formats of the weights that `qwen3guard export --dtype` writes. */
export const DTYPES = ["fp32", "bf16", "fp16", "int8", "w8a8", "int4"] as const;
export type Dtype = (typeof DTYPES)[number];

export type Device = DeviceKindName;

const KV_CACHES = ["fp32", "bf16", "fp16", "int8"] as const;

export const MANIFEST_FILE = "guard.json";
export const MODEL_FILE = "model.onnx";
export const WEIGHTS_FILE = "model.onnx.data";

/** Raised whenever reader and exporter of different versions could misread each other. */
export const FORMAT = 2;

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
  kvCache: (typeof KV_CACHES)[number];
  /** The execution provider the graph was built for. */
  device: Device;
  config: GuardConfig;
  /** Width of a head in the KV cache: the model's own, or more where the kernel wants padding. */
  cachedHeadSize: number;
  /** What the graph gives beside the cache. */
  outputs: ModelOutput[];
  /** SHA-256, in hex, of the checkpoint's files. */
  sources: Record<string, string>;
  /** Size in bytes of the exported files. */
  files: Record<string, number>;
  /** What the format costs against fp32, where `export --verify` measured it. */
  comparison?: Comparison;
}

export function createManifest(content: Omit<Manifest, "format">): Manifest {
  return { format: FORMAT, ...content };
}

export async function writeManifest(dir: string, manifest: Manifest): Promise<void> {
  await writeFile(join(dir, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`);
}

/**
 * Reads guard.json and checks that the files it names are whole.
 *
 * @throws {ModelError} MODEL_NOT_FOUND, MODEL_INVALID, MODEL_TOO_OLD, MODEL_TOO_NEW, MODEL_INCOMPLETE
 */
export async function readManifest(dir: string): Promise<Manifest> {
  const path = join(dir, MANIFEST_FILE);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new ModelError(
      "MODEL_NOT_FOUND",
      `${path} cannot be read: this is no exported model. Make one with \`qwen3guard export CHECKPOINT OUT\`.`,
      { cause },
    );
  }
  const manifest = parse(text, path);
  for (const [file, bytes] of Object.entries(manifest.files)) {
    const size = await stat(join(dir, file)).then(
      (found) => found.size,
      () => -1,
    );
    if (size !== bytes) {
      const found = size < 0 ? "is missing" : `has ${size} bytes`;
      throw new ModelError(
        "MODEL_INCOMPLETE",
        `${join(dir, file)} ${found}, but ${MANIFEST_FILE} says ${bytes} bytes. Export the model again.`,
      );
    }
  }
  return manifest;
}

function parse(text: string, path: string): Manifest {
  let manifest: Partial<Manifest> | null;
  try {
    manifest = JSON.parse(text);
  } catch (cause) {
    throw new ModelError("MODEL_INVALID", `${path} is not JSON. Export the model again.`, { cause });
  }
  if (typeof manifest?.format !== "number") {
    throw new ModelError("MODEL_INVALID", `${path} has no format number. Export the model again.`);
  }
  if (manifest.format > FORMAT) {
    throw new ModelError(
      "MODEL_TOO_NEW",
      `${path} has format ${manifest.format}, and this version reads up to ${FORMAT}. ` +
        "Update qwen3guard-stream, or export the model with this version.",
    );
  }
  if (manifest.format < FORMAT) {
    throw new ModelError(
      "MODEL_TOO_OLD",
      `${path} has format ${manifest.format}, and this version reads format ${FORMAT}. Export the model again.`,
    );
  }
  for (const key of [
    ...["dtype", "kvCache", "device", "config", "cachedHeadSize", "outputs", "sources", "files"],
  ] as (keyof Manifest)[]) {
    if (manifest[key] == null) {
      throw new ModelError("MODEL_INVALID", `${path} lacks "${key}". Export the model again.`);
    }
  }
  for (const [key, known] of Object.entries({
    dtype: DTYPES,
    kvCache: KV_CACHES,
    device: DEVICE_KIND_NAMES,
  })) {
    const value = manifest[key as "dtype"] as string;
    if ((known as readonly string[]).includes(value)) continue;
    throw new ModelError(
      "MODEL_INVALID",
      `${path} says ${key} ${JSON.stringify(value)}, which is none of ${known.join(", ")}. Export the model again.`,
    );
  }
  if (!Array.isArray(manifest.outputs) || !manifest.outputs.every(isOutput)) {
    throw new ModelError(
      "MODEL_INVALID",
      `${path} lists outputs that this version cannot read: ${JSON.stringify(manifest.outputs).slice(0, 200)}. ` +
        "Export the model again.",
    );
  }
  return manifest as Manifest;
}

function isOutput(value: ModelOutput | null): value is ModelOutput {
  return (
    typeof value?.name === "string" &&
    Number.isInteger(value.width) &&
    value.width > 0 &&
    POSITIONS.includes(value.position)
  );
}
