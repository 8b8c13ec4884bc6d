import type { FileHandle } from "node:fs/promises";
import { CheckpointError } from "../errors.js";
import { fileProblem, openRegular } from "../files/regular-file.js";
import { isRecord, parseJson } from "../validation/json.js";
import { quoted } from "../validation/quoted.js";
import { BYTES_PER_VALUE, type SourceDtype } from "./dtype.js";

export type { SourceDtype } from "./dtype.js";

/** Where one tensor's values lie: row-major, little-endian, from byte `begin` to before byte `end` of `file`. */
export interface TensorInfo {
  name: string;
  dtype: SourceDtype;
  shape: number[];
  file: string;
  begin: number;
  end: number;
}

/** Parsing takes some thirty times as much memory; a header takes 100 bytes a tensor. */
const MAX_HEADER_BYTES = 16 << 20;

/** Bits per element of every type the format knows; only those of SourceDtype can be read. */
const BITS: Record<string, number> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  I64: 64,
  U64: 64,
  F64: 64,
  C64: 64,
};

const FETCH_AGAIN = "The file is damaged or its download was cut short: fetch it again.";

/**
 * One open .safetensors file. Its header is checked whole when it is opened: every byte of the data belongs to
 * exactly one tensor, whose size is what its shape and type say.
 * Throws CheckpointError: FILE_MISSING, FILE_UNREADABLE, SAFETENSORS_TRUNCATED, SAFETENSORS_HEADER,
 * SAFETENSORS_DTYPE, SAFETENSORS_LAYOUT.
 */
export class SafetensorsFile {
  readonly tensors = new Map<string, TensorInfo>();
  /** Tensors of types that cannot be read (quantized, integer, …): name → type. */
  readonly unreadable = new Map<string, string>();

  private constructor(
    readonly path: string,
    private readonly handle: FileHandle,
  ) {}

  static async open(path: string): Promise<SafetensorsFile> {
    const handle = await openFile(path);
    const file = new SafetensorsFile(path, handle);
    try {
      await file.readHeader();
      return file;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * Fills `target` with the bytes from `position` (in the file) on.
   * Throws CheckpointError SAFETENSORS_TRUNCATED if the file ends before, FILE_UNREADABLE on an I/O error.
   */
  async read(target: Uint8Array, position: number): Promise<void> {
    let filled = 0;
    while (filled < target.length) {
      const { bytesRead } = await this.handle
        .read(target, filled, target.length - filled, position + filled)
        .catch((cause) => {
          throw unreadable(this.path, cause);
        });
      if (bytesRead === 0) {
        throw new CheckpointError(
          "SAFETENSORS_TRUNCATED",
          `${this.path} ends at byte ${position + filled}, but more was announced. ${FETCH_AGAIN}`,
        );
      }
      filled += bytesRead;
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  private async readHeader(): Promise<void> {
    const { size } = await this.handle.stat();
    const fail = (code: string, complaint: string) =>
      new CheckpointError(code, `${this.path} ${complaint} ${FETCH_AGAIN}`);
    const bytes = Buffer.alloc(await this.headerLength(size, fail));
    await this.read(bytes, 8);
    const header = parseHeader(bytes, (complaint) => fail("SAFETENSORS_HEADER", complaint));
    const offset = 8 + bytes.length;

    const spans: { name: string; begin: number; end: number }[] = [];
    for (const [name, entry] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      const { dtype, shape, begin, end } = parseEntry(entry, (code, complaint) =>
        fail(code, `describes tensor ${quoted(name)} wrongly: ${complaint}.`),
      );
      spans.push({ name, begin, end });
      if (dtype in BYTES_PER_VALUE) {
        const readable = dtype as SourceDtype;
        this.tensors.set(name, {
          name,
          dtype: readable,
          shape,
          file: this.path,
          begin: offset + begin,
          end: offset + end,
        });
      } else {
        this.unreadable.set(name, dtype);
      }
    }
    checkSpans(spans, size - offset, fail);
  }

  private async headerLength(
    size: number,
    fail: (code: string, complaint: string) => Error,
  ): Promise<number> {
    if (size < 8)
      throw fail("SAFETENSORS_TRUNCATED", `has only ${size} bytes: not even a safetensors header length.`);
    const start = Buffer.alloc(8);
    await this.read(start, 0);
    if (start.toString("latin1") === "version ") {
      throw new CheckpointError(
        "SAFETENSORS_HEADER",
        `${this.path} is a Git LFS pointer, not the weights. Run "git lfs pull" in that folder, or fetch the ` +
          `checkpoint with "qwen3guard pull".`,
      );
    }
    const announced = start.readBigUInt64LE();
    if (announced > MAX_HEADER_BYTES) {
      throw fail(
        "SAFETENSORS_HEADER",
        `announces a header of ${announced} bytes (at most ${MAX_HEADER_BYTES} are allowed).`,
      );
    }
    const length = Number(announced);
    if (8 + length > size) {
      throw fail("SAFETENSORS_TRUNCATED", `has ${size} bytes, but announces a header of ${length}.`);
    }
    return length;
  }
}

/** Opens a regular file; a pipe or device would block or never end. */
async function openFile(path: string): Promise<FileHandle> {
  try {
    return await openRegular(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") {
      throw new CheckpointError("FILE_MISSING", `${path} does not exist. Fetch the whole checkpoint again.`, {
        cause,
      });
    }
    throw unreadable(path, cause);
  }
}

export function unreadable(path: string, cause: unknown): CheckpointError {
  return new CheckpointError(
    "FILE_UNREADABLE",
    `${path} cannot be read (${fileProblem(cause)}). Check its permissions and the disk.`,
    { cause },
  );
}

/** A shape, as an error message may show it. */
export function shapeText(shape: number[]): string {
  return `[${shape.slice(0, 8).join(", ")}${shape.length > 8 ? ", …" : ""}]`;
}

function parseHeader(bytes: Buffer, fail: (complaint: string) => Error): Record<string, unknown> {
  let header: unknown;
  try {
    header = parseJson(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw fail("has a header that is not JSON in UTF-8.");
  }
  if (!isRecord(header)) throw fail("has a header that is not a JSON object.");
  return header;
}

function parseEntry(
  entry: unknown,
  fail: (code: string, complaint: string) => Error,
): { dtype: string; shape: number[]; begin: number; end: number } {
  const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as Record<string, unknown>;
  if (typeof dtype !== "string" || !Object.hasOwn(BITS, dtype)) {
    throw fail("SAFETENSORS_DTYPE", `its type ${quoted(dtype)} is unknown`);
  }
  if (!isSizes(shape)) throw fail("SAFETENSORS_HEADER", "its shape is not a list of sizes");
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw fail("SAFETENSORS_HEADER", "its data_offsets are not two byte positions");
  }
  const [begin, end] = offsets;
  const values = shape.reduce((product, size) => product * size, 1);
  if (end - begin !== (values * BITS[dtype]) / 8) {
    throw fail(
      "SAFETENSORS_LAYOUT",
      `${dtype} of shape ${shapeText(shape)} does not fill the bytes from ${begin} to ${end}`,
    );
  }
  return { dtype, shape, begin, end };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/**
 * Each tensor must begin where the one before it ends, up to the file's last byte. A name given twice shows here
 * too: JSON.parse keeps the last one, so the first leaves a hole.
 */
function checkSpans(
  spans: { name: string; begin: number; end: number }[],
  dataBytes: number,
  fail: (code: string, complaint: string) => Error,
): void {
  spans.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const { name, begin, end } of spans) {
    if (begin !== position) {
      const what = begin < position ? "overlaps the tensor before it" : "leaves a hole before it";
      throw fail(
        "SAFETENSORS_LAYOUT",
        `is laid out wrongly: tensor ${quoted(name)} ${what} (at byte ${begin} of the data, not ${position}).`,
      );
    }
    position = end;
  }
  if (position > dataBytes)
    throw fail(
      "SAFETENSORS_TRUNCATED",
      `is cut short: its tensors need ${position} bytes of data, it has ${dataBytes}.`,
    );
  if (position < dataBytes)
    throw fail("SAFETENSORS_LAYOUT", `has ${dataBytes - position} bytes after its last tensor.`);
}
