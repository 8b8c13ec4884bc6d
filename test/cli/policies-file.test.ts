import { unwatchFile } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { keepPolicies, readPolicies } from "../../src/cli/policies-file.js";

const said = vi.spyOn(process.stderr, "write").mockReturnValue(true);
afterEach(() => {
  said.mockClear();
  process.removeAllListeners("SIGHUP");
});

test("policies are read again at SIGHUP and on change; what cannot be used is told and changes nothing", async () => {
  const folder = await mkdtemp(join(tmpdir(), "policies-"));
  try {
    const file = join(folder, "policies.json");
    await writeFile(file, '{"policies": []}');
    expect(await readPolicies(file)).toEqual({ policies: [] });
    const use = vi.fn();
    keepPolicies(file, use);
    process.emit("SIGHUP", "SIGHUP");
    await expect.poll(() => use).toHaveBeenCalledWith({ policies: [] });
    await expect.poll(() => said).toHaveBeenCalledWith(expect.stringContaining("policies_read"));
    use.mockClear();
    await writeFile(file, '{"policies": [');
    process.emit("SIGHUP", "SIGHUP");
    await expect.poll(() => said).toHaveBeenCalledWith(expect.stringContaining("stay as they were"));
    expect(use).not.toHaveBeenCalled();
    await writeFile(file, '{"policies": [5]}');
    await expect.poll(() => use).toHaveBeenCalledWith({ policies: [5] });
  } finally {
    unwatchFile(join(folder, "policies.json"));
    await rm(folder, { recursive: true });
  }
});
