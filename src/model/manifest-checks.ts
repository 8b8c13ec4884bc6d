import { isDeepStrictEqual } from "node:util";
import { CheckpointError } from "../errors.js";
import type { FloatType } from "../onnx/float.js";
import { DEVICE_KIND_NAMES, DEVICE_KINDS } from "../runtime/devices/kinds.js";
import { TOKENIZER_FILES } from "../tokenizer/tokenizer-file.js";
import { isRecord } from "../validation/json.js";
import { type GuardConfig, paddedHeadSize, parseConfig, rawConfig } from "./config.js";
import {
  BRANCHES_FILE,
  type Device,
  DTYPES,
  type Dtype,
  KV_CACHES,
  type Manifest,
  MODEL_FILE,
  WEIGHTS_FILE,
} from "./manifest.js";
import { POSITIONS, tailOf } from "./outputs.js";
import { selfTestComplaint } from "./self-test.js";

/** A folder without one of these is no model. */
const REQUIRED = [MODEL_FILE, WEIGHTS_FILE];
/** What else a folder may have that decides what the model says. */
const KNOWN = [...REQUIRED, BRANCHES_FILE, ...TOKENIZER_FILES];
/** No vocabulary is larger. */
const MAX_WIDTH = 2 ** 24;
const MAX_TAIL = 64;
const SHA256 = /^[0-9a-f]{64}$/;

/**
 * What is wrong with a manifest's content, as the rest of a sentence about the file; null if nothing is. What reads a
 * manifest relies on all of it, so nothing is taken as given: neither that a field is there nor of which type it is.
 */
export function checkManifest(manifest: { [K in keyof Manifest]?: unknown }): string | null {
  for (const check of [checkChoices, checkConfig, checkOutputs, checkFiles, checkSelfTest]) {
    const complaint = check(manifest);
    if (complaint) return complaint;
  }
  return null;
}

type Unchecked = { [K in keyof Manifest]?: unknown };

function checkChoices({ dtype, device, kvCache, sumsFit16Bits, exporter, digest }: Unchecked): string | null {
  const one = (name: string, value: unknown, known: readonly string[]) =>
    known.includes(value as string)
      ? null
      : `says ${name} ${show(value)}, which is none of ${known.join(", ")}`;
  const unknown = one("dtype", dtype, DTYPES) ?? one("device", device, DEVICE_KIND_NAMES);
  if (unknown) return unknown;
  const formats: Partial<Record<Dtype, FloatType>> = DEVICE_KINDS[device as Device].graph.formats;
  const activation = formats[dtype as Dtype];
  if (!activation) return `says dtype ${show(dtype)}, which ${show(device)} has no kernels for`;
  if (sumsFit16Bits !== undefined && !(sumsFit16Bits === true && dtype === "w8a8")) {
    return `says sumsFit16Bits ${show(sumsFit16Bits)}, and only w8a8 has such sums`;
  }
  const caches = [KV_CACHES[activation], ...(device === "cpu" ? ["int8"] : [])];
  return (
    one("kvCache", kvCache, caches) ??
    (typeof exporter === "string" ? null : `lacks "exporter"`) ??
    (typeof digest === "string" ? null : `lacks "digest"`)
  );
}

/** The checks of a checkpoint's config.json, on what the exporter took from one. */
function checkConfig({ config, cachedHeadSize }: Unchecked): string | null {
  if (!isRecord(config)) return `lacks "config"`;
  let parsed: GuardConfig;
  try {
    const given = config as unknown as GuardConfig;
    parsed = parseConfig(rawConfig(given), "config", given.kind === "gen" ? given.labels : null);
  } catch (error) {
    if (error instanceof CheckpointError) return `has a config that no model has (${error.message})`;
    throw error;
  }
  // Those of version 0.1.0 do not say so: they are all stream guards.
  if (!isDeepStrictEqual(parsed, { kind: "stream", ...config }))
    return "has a config with entries that no model has";
  if (cachedHeadSize === paddedHeadSize(parsed.headDim)) return null;
  return `says cachedHeadSize ${show(cachedHeadSize)}, and heads of ${parsed.headDim} are not cached so`;
}

function checkOutputs({ outputs }: Unchecked): string | null {
  const readable = (output: unknown) =>
    isRecord(output) &&
    typeof output.name === "string" &&
    isWhole(output.width, 1, MAX_WIDTH) &&
    (POSITIONS as readonly unknown[]).includes(output.position) &&
    (output.position === "tail" ? isWhole(output.tail, 1, MAX_TAIL) : output.tail === undefined) &&
    (output.asked === undefined || (output.asked === true && output.position === "tail"));
  if (!Array.isArray(outputs) || outputs.length === 0 || !outputs.every(readable)) {
    return `lists outputs that this version cannot read: ${show(outputs)}`;
  }
  const names = new Set(outputs.map(({ name }) => name));
  if (names.size !== outputs.length) return "lists an output twice";
  const tails = new Set(outputs.map(tailOf).filter(Number.isFinite));
  return tails.size < 2 ? null : "lists outputs of different numbers of last tokens";
}

function checkFiles({ files, hashes, sources }: Unchecked): string | null {
  if (!isRecord(files)) return `lacks "files"`;
  if (!isRecord(hashes)) return `lacks "hashes"`;
  if (!isRecord(sources)) return `lacks "sources"`;
  for (const file of REQUIRED) if (!Object.hasOwn(files, file)) return `has no ${file} among its files`;
  for (const [file, bytes] of Object.entries(files)) {
    if (!KNOWN.includes(file)) return `lists ${show(file)}, which is no file of a model`;
    if (!isWhole(bytes, 0, Number.MAX_SAFE_INTEGER)) return `says that ${file} has ${show(bytes)} bytes`;
    if (!Object.hasOwn(hashes, file)) return `has no hash of ${file}`;
    if (Object.hasOwn(sources, file) && sources[file] !== hashes[file]) {
      return `says that ${file} is not the checkpoint's own`;
    }
  }
  for (const [file, hash] of [...Object.entries(hashes), ...Object.entries(sources)]) {
    if (typeof hash !== "string" || !SHA256.test(hash))
      return `has ${show(hash)} for the hash of ${show(file)}`;
  }
  return null;
}

function checkSelfTest({ selfTest, outputs, config }: Unchecked): string | null {
  if (selfTest === undefined) return null;
  const complaint = selfTestComplaint(selfTest, outputs as Manifest["outputs"], config as GuardConfig);
  return complaint && `has a self-test ${complaint}`;
}

function isWhole(value: unknown, min: number, max: number): boolean {
  return Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
