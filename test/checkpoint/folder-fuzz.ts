import { execFileSync } from "node:child_process";
import { cpSync, lstatSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { GuardError } from "../../src/errors.js";
import { exportCheckpoint } from "../../src/export/export.js";
import { ChatTemplate } from "../../src/tokenizer/chat-template/template.js";
import { Tokenizer } from "../../src/tokenizer/tokenizer.js";
import { Dice, mutateBytes, mutateJson } from "../support/mutate.js";

// Run by folders.fuzz.test.ts in a process of its own, since what it looks for ends processes. Says on standard output which
// case it begins, and how each one ended.

const [base, work, seed, from, count] = process.argv.slice(2);
const FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];

/** Pieces of templates that loop, grow, or reach for what is not theirs. */
const TEMPLATES = [
  "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
  "{% set ns = namespace(x='aaaa') %}{% for m in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
  "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
  "{% for a in messages %}{{ messages | tojson(indent=9) }}{% endfor %}",
  "{{ messages[0].content.replace('', 'x' * 9) }}{{ ''.constructor }}",
  "{{ messages[99].role }}{{ x.y }}{% if %}",
  "{%- for m in messages %}{{ m.content[::-1] }}{% endfor %}{{ '<|im_' + 'end|>' }}",
  "{{ raise_exception('no') }}",
  "{{ (".repeat(2000),
];

/** Changes one folder in one to three places; returns what it did. */
function spoil(dir: string, dice: Dice): string {
  const done: string[] = [];
  for (let n = dice.below(3); n >= 0; n--) {
    const name = dice.of(FILES);
    done.push(dice.next() < 0.05 ? replace(dir, name, dice) : edit(dir, name, dice));
  }
  return done.join(", ");
}

function replace(dir: string, name: string, dice: Dice): string {
  const path = join(dir, name);
  rmSync(path, { force: true, recursive: true });
  const kind = dice.of(["gone", "empty", "folder", "pipe", "device", "loop"]);
  if (kind === "empty") writeFileSync(path, "");
  else if (kind === "folder") mkdirSync(path);
  else if (kind === "pipe") execFileSync("mkfifo", [path]);
  else if (kind === "device") symlinkSync("/dev/zero", path);
  else if (kind === "loop") symlinkSync(name, path);
  return `${name} ${kind}`;
}

function edit(dir: string, name: string, dice: Dice): string {
  const path = join(dir, name);
  if (!lstatSync(path, { throwIfNoEntry: false })?.isFile()) return `${name} is none already`;
  const bytes = readFileSync(path);
  if (dice.next() < 0.3) {
    writeFileSync(path, mutateBytes(bytes, dice));
    return `${name} bytes`;
  }
  try {
    writeFileSync(path, name.endsWith(".json") ? json(bytes, name, dice) : safetensors(bytes, dice));
  } catch {
    writeFileSync(path, mutateBytes(bytes, dice));
  }
  return `${name} values`;
}

function json(bytes: Buffer, name: string, dice: Dice): string {
  const value = JSON.parse(bytes.toString());
  if (name === "tokenizer_config.json" && dice.next() < 0.6) {
    const { chat_template: template } = value;
    const at = dice.below(template.length);
    value.chat_template = dice.of([
      () => dice.of(TEMPLATES) + template,
      () => template.slice(0, at) + dice.of(TEMPLATES) + template.slice(at),
      () => template.slice(0, at) + template.slice(at + dice.below(50)),
      () => [{ name: "default", template: dice.of(TEMPLATES) }, null],
    ])();
    return JSON.stringify(value);
  }
  return JSON.stringify(mutateJson(value, dice, TEMPLATES)) ?? "";
}

function safetensors(bytes: Buffer, dice: Dice): Buffer {
  const length = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
  const changed = Buffer.from(
    JSON.stringify(mutateJson(header, dice, ["F32", "I8", "BF16", [0, 0], [1e9, 1e9]])),
  );
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(changed.length));
  return Buffer.concat([start, changed, bytes.subarray(8 + length)]);
}

/** All that is read of a checkpoint, and its export. */
async function use(dir: string, out: string): Promise<void> {
  const tokenizer = await Tokenizer.load(dir);
  const template = await ChatTemplate.load(dir, tokenizer);
  template.prefix([{ role: "user", content: "Hi, you! ".repeat(200) }]);
  const checkpoint = await Checkpoint.open(dir);
  await checkpoint.close();
  await exportCheckpoint(dir, out);
}

/** The same with each part alone, so that an early error does not hide a later one. */
async function outcome(dir: string, out: string): Promise<string> {
  const parts = [
    () => use(dir, out),
    () => Checkpoint.open(dir).then((checkpoint) => checkpoint.close()),
    () => Tokenizer.load(dir).then((tokenizer) => ChatTemplate.load(dir, tokenizer)),
  ];
  const results: string[] = [];
  for (const part of parts) {
    try {
      await part();
      results.push("ok");
    } catch (error) {
      if (!(error instanceof GuardError))
        return `UNNAMED ${(error as Error)?.stack ?? error}`.replaceAll("\n", " | ");
      if (error.message.length > 5000) return `UNNAMED ${error.code} in ${error.message.length} characters`;
      results.push(error.code);
    }
  }
  return results.join(" ");
}

for (let n = Number(from); n < Number(from) + Number(count); n++) {
  const dir = join(work, "checkpoint");
  const out = join(work, "model");
  for (const folder of [dir, out]) rmSync(folder, { recursive: true, force: true });
  cpSync(base, dir, { recursive: true });
  const what = spoil(dir, new Dice(Number(seed) * 1_000_003 + n));
  process.stdout.write(`case ${n} (${what})\n`);
  process.stdout.write(`${await outcome(dir, out)}\n`);
}
