import { stat } from "node:fs/promises";
import { join } from "node:path";
import { ModelError } from "../errors.js";
import { fileProblem, readText } from "../files/regular-file.js";
import { FORMAT, MANIFEST_FILE, type Manifest, manifestDigest } from "./manifest.js";
import { checkManifest } from "./manifest-checks.js";

/** An export's has some tens of kilobytes. */
const MAX_BYTES = 8 * 2 ** 20;

/**
 * Reads guard.json, checks all of it, and that the files it names are there in their size. Their content is
 * `verifyFiles`' to check.
 *
 * @throws {ModelError} MODEL_NOT_FOUND, MODEL_INVALID, MODEL_TOO_OLD, MODEL_TOO_NEW, MODEL_INCOMPLETE
 */
export async function readManifest(dir: string): Promise<Manifest> {
  const path = join(dir, MANIFEST_FILE);
  const text = await readText(path, MAX_BYTES).catch((cause) => {
    throw new ModelError(
      "MODEL_NOT_FOUND",
      `${path} cannot be read (${fileProblem(cause)}): this is no exported model. Make one with ` +
        "`qwen3guard export CHECKPOINT OUT`.",
      { cause },
    );
  });
  const manifest = parse(text, path);
  for (const [file, bytes] of Object.entries(manifest.files)) {
    const found = await stat(join(dir, file)).catch(() => null);
    if (found?.isFile() && found.size === bytes) continue;
    const is = !found ? "is missing" : found.isFile() ? `has ${found.size} bytes` : "is no file";
    throw new ModelError(
      "MODEL_INCOMPLETE",
      `${join(dir, file)} ${is}, but ${MANIFEST_FILE} says ${bytes} bytes. Export the model again.`,
    );
  }
  return manifest;
}

function parse(text: string, path: string): Manifest {
  const invalid = (complaint: string, cause?: unknown) =>
    new ModelError("MODEL_INVALID", `${path} ${complaint}. Export the model again.`, { cause });
  let manifest: Partial<Manifest> | null;
  try {
    manifest = JSON.parse(text);
  } catch (cause) {
    throw invalid("is not JSON", cause);
  }
  const format = manifest?.format;
  if (typeof format !== "number") throw invalid("has no format number");
  if (format > FORMAT) {
    throw new ModelError(
      "MODEL_TOO_NEW",
      `${path} has format ${format}, and this version reads up to ${FORMAT}. ` +
        "Update qwen3guard-stream, or export the model with this version.",
    );
  }
  if (format < FORMAT) {
    throw new ModelError(
      "MODEL_TOO_OLD",
      `${path} has format ${format}, and this version reads format ${FORMAT}. Export the model again.`,
    );
  }
  const complaint = checkManifest(manifest as Manifest);
  if (complaint) throw invalid(complaint);
  if (manifestDigest(manifest as Manifest) !== (manifest as Manifest).digest) {
    throw invalid("was changed since the export: its digest is another");
  }
  (manifest as Manifest).config.kind ??= "stream";
  return manifest as Manifest;
}
