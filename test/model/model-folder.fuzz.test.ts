import { type ChildProcess, execFileSync, fork } from "node:child_process";
import { cp, mkdir, open, readFile, rename, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { tiny, writeRandomCheckpoint } from "../../scripts/checkpoint/random.js";
import { convertCheckpoint } from "../../src/calibration/convert-checkpoint.js";
import { MANIFEST_FILE, writeManifest } from "../../src/model/manifest.js";
import { temporaryFolder } from "../support/model.js";
import type { Outcome } from "./loading-child.js";

/** Cases; FUZZ_RUNS asks for more, FUZZ_SEED for others. */
const numRuns = Number(process.env.FUZZ_RUNS ?? 60);
const seed = Number(process.env.FUZZ_SEED ?? 1);
/** What a case may take of a processor; a machine that is busy with other things makes none fail. Milliseconds. */
const LONGEST_CPU = 5000;
/** After this long it hangs. Milliseconds. */
const HANGS = 60_000;

const CHILD = fileURLToPath(new URL("loading-child.ts", import.meta.url));
const FILES = [MANIFEST_FILE, "model.onnx", "model.onnx.data", "tokenizer.json", "tokenizer_config.json"];
const FORMATS = [{ dtype: "fp32" }, { dtype: "w8a8" }, { dtype: "int4", kvCache: "int8" }] as const;

type Damage =
  | { kind: "flip" | "truncate" | "zero" | "insert"; file: string; at: number; length: number }
  | { kind: "remove" | "folder" | "pipe" | "link"; file: string }
  | { kind: "swap"; file: string; other: string }
  | { kind: "add"; file: string; text: string }
  /** An edit of guard.json; `sealed`: with a digest that fits, as by somebody who knows how. */
  | { kind: "edit"; path: number[]; value: unknown; sealed: boolean };

const file = fc.constantFrom(...FILES);
const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const value = fc.oneof(
  fc.constantFrom(
    null,
    0,
    -1,
    1,
    1.5,
    2 ** 31,
    2 ** 53,
    1e300,
    "",
    "Safe",
    "model.onnx",
    [],
    {},
    true,
    "../x",
  ),
  fc.integer({ min: 0, max: 4096 }),
  fc.string({ maxLength: 8 }),
);
const damage: fc.Arbitrary<Damage> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: kinds("flip", "zero"), file, at: share, length: length(64) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: kinds("truncate", "insert"), file, at: share, length: length(9000) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: kinds("remove", "folder", "pipe", "link"), file }) },
  { weight: 1, arbitrary: fc.record({ kind: kinds("swap"), file, other: file }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: kinds("add"),
      file: fc.constantFrom("chat_template.jinja", "config.json", "model.onnx.data.bak", "notes.txt"),
      text: fc.constantFrom("", "{}", "{{ messages }}", "{% for m in messages %}{{ m.content }}{% endfor %}"),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: kinds("edit"),
      path: fc.array(fc.nat(30), { minLength: 1, maxLength: 4 }),
      value,
      sealed: fc.boolean(),
    }),
  },
);

let root: string;
const models: string[] = [];
const expected: Extract<Outcome, { loaded: true }>[] = [];
let child: ChildProcess | undefined;

beforeAll(async () => {
  root = await temporaryFolder();
  await writeRandomCheckpoint(join(root, "checkpoint"), { config: tiny, dtype: "BF16" });
  for (const [i, format] of FORMATS.entries()) {
    models.push(join(root, `model-${i}`));
    await convertCheckpoint(join(root, "checkpoint"), models[i], format);
    expected.push((await load(models[i])) as (typeof expected)[number]);
    expect(expected[i]).toMatchObject({ loaded: true });
  }
});
afterAll(() => child?.kill("SIGKILL"));

test(
  "a damaged model folder is a named error, or the model is right",
  async () => {
    const counts: Record<string, number> = {};
    let slowest = 0;
    const model = fc.nat(FORMATS.length - 1);
    const damages = fc.array(damage, { minLength: 1, maxLength: 3 });
    const property = fc.asyncProperty(model, damages, async (which, list) => {
      const dir = join(root, "damaged");
      await rm(dir, { recursive: true, force: true });
      await cp(models[which], dir, { recursive: true });
      for (const one of list) await apply(dir, one).catch(() => {});
      const outcome = await load(dir);
      slowest = Math.max(slowest, outcome.cpuMs);
      expect(outcome.cpuMs).toBeLessThan(LONGEST_CPU);
      const code = outcome.loaded ? "loaded" : outcome.code;
      counts[code] = (counts[code] ?? 0) + 1;
      if (outcome.loaded) {
        expect(outcome.probabilities).toEqual(expected[which].probabilities);
        // Who seals an edit may call a label by another name.
        const renamed = list.some((one) => one.kind === "edit" && one.sealed);
        if (!renamed) expect(outcome.labels).toEqual(expected[which].labels);
      } else {
        expect(outcome, outcome.message).toMatchObject({ named: true });
        expect(outcome.message).toMatch(/[.`]$/);
      }
    });
    await fc.assert(property, { numRuns, seed, endOnFailure: true });
    if (process.env.FUZZ_RUNS) console.log(counts, `slowest ${slowest.toFixed(0)} ms of a processor`);
    expect(counts.MODEL_CHANGED).toBeGreaterThan(0);
  },
  Math.max(240_000, numRuns * 1000),
);

async function load(dir: string): Promise<Outcome> {
  child ??= fork(CHILD, { execArgv: ["--import", "tsx"], stdio: ["ignore", "ignore", "inherit", "ipc"] });
  const one = child;
  return new Promise((resolve, reject) => {
    const fail = (what: string) => {
      child = undefined;
      one.removeAllListeners();
      one.kill("SIGKILL");
      reject(new Error(what));
    };
    const timer = setTimeout(() => fail(`no answer after ${HANGS} ms`), HANGS);
    one.once("exit", (code, signal) => {
      clearTimeout(timer);
      fail(`the process ended with ${signal ?? code}`);
    });
    one.once("message", (outcome: Outcome) => {
      clearTimeout(timer);
      one.removeAllListeners();
      resolve(outcome);
    });
    one.send({ dir, cacheDir: join(root, "cache") });
  });
}

async function apply(dir: string, one: Damage): Promise<void> {
  if (one.kind === "edit") return edit(dir, one);
  const path = join(dir, one.file);
  switch (one.kind) {
    case "remove":
      return rm(path);
    case "folder":
      await rm(path);
      return mkdir(path);
    case "pipe":
      await rm(path);
      execFileSync("mkfifo", [path]);
      return;
    case "link":
      await rename(path, `${path}.elsewhere`);
      return symlink(`${path}.elsewhere`, path);
    case "swap":
      await rename(path, join(dir, "kept"));
      await rename(join(dir, one.other), path);
      return rename(join(dir, "kept"), join(dir, one.other));
    case "add":
      return writeFile(path, one.text);
    default:
      return damageBytes(path, one);
  }
}

async function damageBytes(
  path: string,
  { kind, at, length }: Extract<Damage, { at: number }>,
): Promise<void> {
  const bytes = await readRegular(path);
  const from = Math.floor(at * bytes.length);
  if (kind === "truncate") return truncate(path, from);
  if (kind === "insert") {
    return writeFile(
      path,
      Buffer.concat([bytes.subarray(0, from), Buffer.alloc(length, 65), bytes.subarray(from)]),
    );
  }
  const part = bytes.subarray(from, from + length);
  if (kind === "zero") part.fill(0);
  else part[0] ^= 1 << (length % 8);
  // In place, as a disk's fault would be.
  const handle = await open(path, "r+");
  await handle.write(part, 0, part.length, from);
  await handle.close();
}

/** What became a pipe by earlier damage would be waited for. */
async function readRegular(path: string): Promise<Buffer> {
  if (!(await stat(path)).isFile()) throw new Error(`${path} is no file`);
  return readFile(path);
}

async function edit(dir: string, { path, value, sealed }: Extract<Damage, { kind: "edit" }>): Promise<void> {
  const file = join(dir, MANIFEST_FILE);
  const manifest = JSON.parse((await readRegular(file)).toString());
  let node = manifest;
  for (const [depth, step] of path.entries()) {
    const keys = Object.keys(node);
    if (keys.length === 0) break;
    const key = keys[step % keys.length];
    const inner = node[key];
    if (depth === path.length - 1 || typeof inner !== "object" || inner === null) {
      if (value === "" && depth === 1) delete node[key];
      else node[key] = value;
      break;
    }
    node = inner;
  }
  if (!sealed) return writeFile(file, JSON.stringify(manifest));
  const { format: _, digest: __, ...content } = manifest;
  await writeManifest(dir, content);
}

function kinds<K extends Damage["kind"]>(...names: K[]): fc.Arbitrary<K> {
  return fc.constantFrom(...names);
}

function length(max: number): fc.Arbitrary<number> {
  return fc.integer({ min: 1, max });
}
