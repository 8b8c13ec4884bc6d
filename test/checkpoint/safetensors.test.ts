import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SafetensorsFile } from "../../src/checkpoint/safetensors.js";
import { CheckpointError } from "../../src/errors.js";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "safetensors-"));
});
afterAll(() => rm(dir, { recursive: true }));

function file(header: unknown, data = 0, length?: bigint): Buffer {
  const json =
    typeof header === "string" ? Buffer.from(header, "latin1") : Buffer.from(JSON.stringify(header));
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(length ?? BigInt(json.length));
  return Buffer.concat([start, json, Buffer.alloc(data, 7)]);
}

const tensor = (dtype: string, shape: unknown, begin: unknown, end: unknown) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

async function open(bytes: Buffer): Promise<SafetensorsFile> {
  const path = join(dir, "t.safetensors");
  await writeFile(path, bytes);
  return SafetensorsFile.open(path);
}

test("lists tensors with absolute positions, in any order, with metadata, padding, empty and scalar ones", async () => {
  const header = {
    b: tensor("F32", [2, 1], 8, 16),
    __metadata__: { format: "pt" },
    a: tensor("BF16", [2, 2], 0, 8),
    empty: tensor("F16", [0, 5], 16, 16),
    scalar: tensor("F32", [], 16, 20),
    ids: tensor("I64", [1], 20, 28),
  };
  const bytes = file(`${JSON.stringify(header)}   `, 28);
  const opened = await open(bytes);
  const base = bytes.length - 28;
  expect(opened.tensors.get("b")).toEqual({
    name: "b",
    dtype: "F32",
    shape: [2, 1],
    file: join(dir, "t.safetensors"),
    begin: base + 8,
    end: base + 16,
  });
  expect([...opened.tensors.keys()].sort()).toEqual(["a", "b", "empty", "scalar"]);
  expect([...opened.unreadable]).toEqual([["ids", "I64"]]);
  const target = new Uint8Array(3);
  await opened.read(target, base - 1);
  expect([...target]).toEqual([0x20, 7, 7]);
  await opened.close();
});

const ok = { a: tensor("F32", [2], 0, 8) };

test.each<[string, Buffer, string, RegExp]>([
  ["an empty file", Buffer.alloc(0), "SAFETENSORS_TRUNCATED", /0 bytes/],
  ["seven bytes", Buffer.alloc(7), "SAFETENSORS_TRUNCATED", /7 bytes/],
  ["a header longer than the file", file(ok, 8, 5000n), "SAFETENSORS_TRUNCATED", /header of 5000/],
  ["an absurd header length", file(ok, 8, 2n ** 63n), "SAFETENSORS_HEADER", /9223372036854775808/],
  ["a header just too long", file(ok, 8, 100_000_001n), "SAFETENSORS_HEADER", /100000001/],
  [
    "a Git LFS pointer",
    Buffer.from("version https://git-lfs.github.com/spec/v1\noid"),
    "SAFETENSORS_HEADER",
    /git lfs pull/,
  ],
  ["no JSON", file("{nope", 8), "SAFETENSORS_HEADER", /JSON/],
  ["no UTF-8", file('{"\xff": 1}', 8), "SAFETENSORS_HEADER", /UTF-8/],
  ["an empty header", file("", 8), "SAFETENSORS_HEADER", /JSON/],
  ["a list", file([], 8), "SAFETENSORS_HEADER", /object/],
  ["null", file(null), "SAFETENSORS_HEADER", /object/],
  ["an entry that is null", file({ a: null }), "SAFETENSORS_DTYPE", /"a"/],
  ["an unknown dtype", file({ a: tensor("F128", [1], 0, 16) }, 16), "SAFETENSORS_DTYPE", /"F128"/],
  [
    "a dtype from the prototype",
    file({ a: tensor("toString", [1], 0, 4) }, 4),
    "SAFETENSORS_DTYPE",
    /toString/,
  ],
  ["no shape", file({ a: tensor("F32", undefined, 0, 4) }, 4), "SAFETENSORS_HEADER", /shape/],
  ["a negative size", file({ a: tensor("F32", [-1, -1], 0, 4) }, 4), "SAFETENSORS_HEADER", /shape/],
  ["a fractional size", file({ a: tensor("F32", [0.5, 2], 0, 4) }, 4), "SAFETENSORS_HEADER", /shape/],
  [
    "an overflowing shape",
    file({ a: tensor("F32", [2 ** 40, 2 ** 40], 0, 4) }, 4),
    "SAFETENSORS_LAYOUT",
    /fill/,
  ],
  [
    "one offset",
    file({ a: { dtype: "F32", shape: [1], data_offsets: [0] } }, 4),
    "SAFETENSORS_HEADER",
    /data_offsets/,
  ],
  ["no offsets", file({ a: { dtype: "F32", shape: [1] } }, 4), "SAFETENSORS_HEADER", /data_offsets/],
  ["offsets as text", file({ a: tensor("F32", [1], "0", "4") }, 4), "SAFETENSORS_HEADER", /data_offsets/],
  ["offsets the wrong way round", file({ a: tensor("F32", [1], 4, 0) }, 4), "SAFETENSORS_LAYOUT", /fill/],
  [
    "bytes that disagree with the shape",
    file({ a: tensor("F32", [3], 0, 8) }, 8),
    "SAFETENSORS_LAYOUT",
    /\[3\]/,
  ],
  ["a hole at the start", file({ a: tensor("F32", [1], 4, 8) }, 8), "SAFETENSORS_LAYOUT", /hole/],
  [
    "a hole",
    file({ a: tensor("F32", [1], 0, 4), b: tensor("F32", [1], 8, 12) }, 12),
    "SAFETENSORS_LAYOUT",
    /"b".*hole/,
  ],
  [
    "an overlap",
    file({ a: tensor("F32", [2], 0, 8), b: tensor("F32", [1], 4, 8) }, 8),
    "SAFETENSORS_LAYOUT",
    /overlap/,
  ],
  [
    "two tensors in one place",
    file({ a: tensor("F32", [1], 0, 4), b: tensor("F32", [1], 0, 4) }, 4),
    "SAFETENSORS_LAYOUT",
    /overlap/,
  ],
  [
    "a name given twice",
    file(
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
      8,
    ),
    "SAFETENSORS_LAYOUT",
    /hole/,
  ],
  ["data cut short", file(ok, 7), "SAFETENSORS_TRUNCATED", /8 bytes of data, it has 7/],
  ["bytes at the end", file(ok, 9), "SAFETENSORS_LAYOUT", /1 bytes after/],
])("refuses %s", async (_, bytes, code, message) => {
  const error = await open(bytes).catch((error) => error);
  expect(error).toBeInstanceOf(CheckpointError);
  expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  expect(error.message).toContain("t.safetensors");
});

test("refuses what is no file", async () => {
  await expect(SafetensorsFile.open(join(dir, "none"))).rejects.toMatchObject({ code: "FILE_MISSING" });
  await mkdir(join(dir, "folder"));
  await expect(SafetensorsFile.open(join(dir, "folder"))).rejects.toMatchObject({ code: "FILE_UNREADABLE" });
});

test("notices a file that shrinks while it is open", async () => {
  const opened = await open(file(ok, 8));
  await truncate(opened.path, 40);
  await expect(opened.read(new Uint8Array(8), 38)).rejects.toMatchObject({ code: "SAFETENSORS_TRUNCATED" });
  await opened.close();
});

test("damaged files of any kind give a CheckpointError or a consistent file, never anything else", async () => {
  const valid = file(
    {
      a: tensor("BF16", [2, 2], 0, 8),
      b: tensor("F32", [2], 8, 16),
      c: tensor("I8", [3], 16, 19),
      __metadata__: { x: "y" },
    },
    19,
  );
  const path = join(dir, "fuzz.safetensors");
  const edit = fc.oneof(
    fc.record({ kind: fc.constant("set" as const), at: fc.nat(valid.length - 1), byte: fc.nat(255) }),
    fc.record({ kind: fc.constant("cut" as const), at: fc.nat(valid.length), byte: fc.constant(0) }),
    fc.record({ kind: fc.constant("insert" as const), at: fc.nat(valid.length), byte: fc.nat(255) }),
    fc.record({ kind: fc.constant("remove" as const), at: fc.nat(valid.length - 1), byte: fc.constant(0) }),
    // Digits in place of digits keep the JSON valid and reach the checks behind it.
    fc.record({
      kind: fc.constant("digit" as const),
      at: fc.nat(30),
      byte: fc.integer({ min: 0x30, max: 0x39 }),
    }),
  );
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 4 }), async (edits) => {
      let bytes = Buffer.from(valid);
      for (const { kind, at, byte } of edits) {
        if (kind === "set" && at < bytes.length) bytes[at] = byte;
        else if (kind === "cut") bytes = bytes.subarray(0, at);
        else if (kind === "insert")
          bytes = Buffer.concat([bytes.subarray(0, at), Buffer.of(byte), bytes.subarray(at)]);
        else if (kind === "remove") bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]);
        else if (kind === "digit") {
          const digits = [...bytes.keys()].filter((i) => i >= 8 && bytes[i] >= 0x30 && bytes[i] <= 0x39);
          if (digits.length > 0) bytes[digits[at % digits.length]] = byte;
        }
      }
      await writeFile(path, bytes);
      let opened: SafetensorsFile;
      try {
        opened = await SafetensorsFile.open(path);
      } catch (error) {
        expect(error).toBeInstanceOf(CheckpointError);
        refused++;
        return;
      }
      try {
        for (const { begin, end } of opened.tensors.values())
          await opened.read(new Uint8Array(end - begin), begin);
      } finally {
        await opened.close();
      }
    }),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 1000) },
  );
  expect(refused).toBeGreaterThan(500);
});
