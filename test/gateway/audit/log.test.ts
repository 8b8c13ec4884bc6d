import { execFile } from "node:child_process";
import { access, mkdir, readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test, vi } from "vitest";
import { AuditLog } from "../../../src/gateway/audit/log.js";
import { temporaryFolder } from "../../support/model.js";
import { built } from "../../support/program.js";
import { anAudit, entry, KEY, linesOf, written } from "./audited.js";

const run = promisify(execFile);
const read = (path: string) => readFile(path, "utf8");

test("lines are appended, in order", async () => {
  const { audit, path, lines } = await anAudit();
  for (let i = 0; i < 1000; i++) audit.write(entry({ choice: i }));
  expect((await lines()).map(({ choice }) => choice)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
  await audit.close();
  const again = await AuditLog.open(path, { key: KEY });
  again.write(entry({ choice: 1000 }));
  expect(await again.close()).toBe(0);
  expect(linesOf(await read(path))).toHaveLength(1001);
});

test("separators of lines in a text do not end a line", async () => {
  const { audit, path } = await anAudit({ text: true });
  audit.write(entry({ text: "a\u2028b\u2029c\nd\re" }));
  await audit.close();
  const text = await read(path);
  expect(text.split(/[\n\r\u2028\u2029]/)).toHaveLength(2);
  expect(linesOf(text)[0].text).toBe("a\u2028b\u2029c\nd\re");
});

test("a file that was renamed is left at reopen, and one that was truncated in place goes on from its beginning", async () => {
  const { audit, path, lines } = await anAudit();
  audit.write(entry({ choice: 1 }));
  await written(audit);
  await rename(path, `${path}.1`);
  audit.write(entry({ choice: 2 }));
  await written(audit);
  expect(linesOf(await read(`${path}.1`))).toHaveLength(2);
  audit.reopen();
  audit.write(entry({ choice: 3 }));
  expect((await lines()).map(({ choice }) => choice)).toEqual([3]);
  await truncate(path);
  audit.write(entry({ choice: 4 }));
  expect((await lines()).map(({ choice }) => choice)).toEqual([4]);
  await audit.close();
});

test("lines of 100 kB that several processes write do not mix", async () => {
  const path = join(await temporaryFolder(), "audit.jsonl");
  const source = `
    const { AuditLog } = await import(${JSON.stringify(built("gateway/audit/log.js"))});
    const audit = await AuditLog.open(${JSON.stringify(path)}, { key: ${JSON.stringify(KEY)} });
    const [, id, line] = process.argv;
    for (let i = 0; i < 200; i++) {
      audit.write({ ...JSON.parse(line), choice: i, requestId: id, model: id.repeat(i % 3 === 0 ? 100_000 : 10) });
      if (i % 10 === 0) await new Promise(setImmediate);
    }
    process.exitCode = await audit.close(60_000);
  `;
  const args = (id: string) => ["--input-type=module", "-e", source, "--", id, JSON.stringify(entry())];
  await Promise.all(["a", "b", "c"].map((id) => run(process.execPath, args(id))));
  const lines = linesOf(await read(path));
  for (const id of ["a", "b", "c"]) {
    const own = lines.filter(({ requestId }) => requestId === id);
    expect(own.map(({ choice }) => choice)).toEqual(Array.from({ length: 200 }, (_, i) => i));
  }
});

describe.skipIf(process.platform !== "linux")("a full disk", () => {
  test("is told once, keeps all lines, and is over once there is room", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "audit.jsonl");
    await symlink("/dev/full", path);
    const onChange = vi.fn();
    const audit = await AuditLog.open(path, { key: KEY, onChange });
    audit.write(entry({ choice: 1 }));
    await expect.poll(() => audit.unwritable?.code).toBe("AUDIT_UNWRITABLE");
    audit.write(entry({ choice: 2 }));
    expect(audit.unwritable?.message).toContain("ENOSPC");
    expect(audit.failures).toBe(1);
    await rm(path);
    await writeFile(path, "");
    audit.reopen();
    await expect.poll(() => audit.unwritable).toBeNull();
    expect(linesOf(await read(path)).map(({ choice }) => choice)).toEqual([1, 2]);
    expect(onChange.mock.calls.map(([error]) => error?.code ?? null)).toEqual(["AUDIT_UNWRITABLE", null]);
    await audit.close();
  });

  test("at the end is told by how many lines are lost", async () => {
    const audit = await AuditLog.open("/dev/full", { key: KEY });
    for (let i = 0; i < 3; i++) audit.write(entry());
    expect(await audit.close(50)).toBe(3);
  });
});

test("a folder that is gone at reopen is told, and nothing is lost once it is back", async () => {
  const folder = join(await temporaryFolder(), "logs");
  await mkdir(folder);
  const path = join(folder, "audit.jsonl");
  const audit = await AuditLog.open(path, { key: KEY });
  await rm(folder, { recursive: true });
  audit.reopen();
  audit.write(entry());
  await expect.poll(() => audit.unwritable).not.toBeNull();
  await mkdir(folder);
  await expect.poll(() => audit.unwritable).toBeNull();
  expect(linesOf(await read(path))).toHaveLength(1);
  await audit.close();
});

test("where more waits than may, nothing more is to be decided", async () => {
  const { audit, lines } = await anAudit({ mostWaiting: 1000 });
  for (let i = 0; i < 10; i++) audit.write(entry());
  expect(audit.unwritable?.code).toBe("AUDIT_UNWRITABLE");
  expect(await lines()).toHaveLength(10);
  expect(audit.unwritable).toBeNull();
  await audit.close();
});

test("what cannot be an audit is refused when it is opened", async () => {
  const folder = await temporaryFolder();
  await expect(AuditLog.open(folder)).rejects.toMatchObject({ code: "AUDIT_INVALID" });
  await expect(AuditLog.open(join(folder, "no", "such.jsonl"))).rejects.toMatchObject({
    code: "AUDIT_UNWRITABLE",
  });
  await expect(AuditLog.open(join(folder, "a.jsonl"), { key: "short" })).rejects.toMatchObject({
    code: "AUDIT_KEY_INVALID",
  });
  if (process.platform === "win32") return;
  const pipe = join(folder, "pipe");
  await run("mkfifo", [pipe]);
  await expect(AuditLog.open(pipe)).rejects.toMatchObject({ code: "AUDIT_INVALID" });
  await access(pipe);
});
