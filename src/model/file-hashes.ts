import { createHash } from "node:crypto";
import type { BigIntStats } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { ModelError } from "../errors.js";
import { fileProblem, openRegular, readText, writeWhole } from "../files/regular-file.js";
import { TOKENIZER_FILES } from "../tokenizer/tokenizer-file.js";
import { MANIFEST_FILE, type Manifest } from "./manifest.js";

/** By file: its SHA-256, and which file, in which state, that is the hash of. */
type Known = Record<string, { identity: string; sha256: string }>;

/** A file that was written less than this long ago may change once more within one tick of the file system's clock. */
const SETTLED_MS = 2000;
const PIECE = 1 << 20;
const MAX_NOTE_BYTES = 65_536;

/**
 * Checks that a model's files have the content that was exported. A file that nobody touched since its hash was taken
 * is not read again: which file that is, its size and its times say, the time of its last change of any kind among
 * them, which no program can set. Where they are kept, `cacheDir`, is not the model's folder: that one may be
 * read-only, and must not vouch for itself.
 *
 * @returns a check that the files are still those, for when somebody else has read them
 * @throws {ModelError} MODEL_CHANGED, MODEL_INCOMPLETE
 */
export async function verifyFiles(
  dir: string,
  { files, hashes }: Pick<Manifest, "files" | "hashes">,
  cacheDir: string,
): Promise<() => Promise<void>> {
  for (const file of TOKENIZER_FILES) {
    if (Object.hasOwn(files, file) || !(await stat(join(dir, file)).catch(() => null))) continue;
    throw changed(dir, file, `came to the model since ${MANIFEST_FILE} was written`);
  }
  const begun = Date.now();
  const note = await noteFile(dir, cacheDir);
  const known = await readNote(note);
  const found: Known = {};
  for (const file of Object.keys(files)) {
    const identity = await identityOf(dir, file);
    const sha256 =
      known[file]?.identity === identity ? known[file].sha256 : await hashFile(dir, file, identity);
    if (sha256 !== hashes[file]) throw changed(dir, file, "has other content than at the export");
    found[file] = { identity, sha256 };
  }
  if (JSON.stringify(known) !== JSON.stringify(found))
    await writeNote(note, await settled(dir, found, begun));
  return async () => {
    for (const file of Object.keys(files)) {
      if ((await identityOf(dir, file)) !== found[file].identity) {
        throw changed(dir, file, "changed while the model was loaded");
      }
    }
  };
}

/** SHA-256, in hex, of each of a folder's files. @throws {ModelError} MODEL_CHANGED, MODEL_INCOMPLETE */
export async function hashFiles(dir: string, files: string[]): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const file of files) hashes[file] = await hashFile(dir, file, await identityOf(dir, file));
  return hashes;
}

async function hashFile(dir: string, file: string, identity: string): Promise<string> {
  const handle = await openRegular(join(dir, file)).catch((cause) => {
    throw new ModelError(
      "MODEL_INCOMPLETE",
      `${join(dir, file)} cannot be read (${fileProblem(cause)}). Export the model again.`,
      { cause },
    );
  });
  try {
    const hash = createHash("sha256");
    const piece = Buffer.allocUnsafe(PIECE);
    for (;;) {
      const { bytesRead } = await handle.read(piece, 0, PIECE);
      if (bytesRead === 0) break;
      hash.update(piece.subarray(0, bytesRead));
    }
    if (fileIdentity(await handle.stat({ bigint: true })) !== identity) {
      throw changed(dir, file, "changed while it was read");
    }
    return hash.digest("hex");
  } finally {
    await handle.close();
  }
}

async function identityOf(dir: string, file: string): Promise<string> {
  const found = await stat(join(dir, file), { bigint: true }).catch(() => null);
  if (found?.isFile()) return fileIdentity(found);
  throw new ModelError("MODEL_INCOMPLETE", `${join(dir, file)} is no file. Export the model again.`);
}

/** Which file it is, and in which state: a change of any kind gives another one. */
export function fileIdentity({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
}

/** Those whose next change after a moment shows in their times. */
async function settled(dir: string, found: Known, moment: number): Promise<Known> {
  const kept: Known = {};
  for (const [file, entry] of Object.entries(found)) {
    const { mtimeMs, ctimeMs } = await stat(join(dir, file)).catch(() => ({
      mtimeMs: Infinity,
      ctimeMs: Infinity,
    }));
    if (moment - Math.max(mtimeMs, ctimeMs) > SETTLED_MS) kept[file] = entry;
  }
  return kept;
}

/** By the folder itself, not its path: a model that was moved is still the same. */
async function noteFile(dir: string, cacheDir: string): Promise<string> {
  const { dev, ino } = await stat(dir, { bigint: true });
  return join(cacheDir, "models", `${dev}-${ino}.json`);
}

async function readNote(path: string): Promise<Known> {
  try {
    const note: unknown = JSON.parse(await readText(path, MAX_NOTE_BYTES));
    return typeof note === "object" && note !== null ? (note as Known) : {};
  } catch {
    return {};
  }
}

async function writeNote(path: string, known: Known): Promise<void> {
  if (Object.keys(known).length === 0) return;
  try {
    await writeWhole(path, JSON.stringify(known));
  } catch {
    // Then they are hashed again next time.
  }
}

function changed(dir: string, file: string, what: string): ModelError {
  return new ModelError("MODEL_CHANGED", `${join(dir, file)} ${what}. Export the model again.`);
}
