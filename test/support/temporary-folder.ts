import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const folders: string[] = [];

/** A folder that is removed when the test file is done. */
export async function temporaryFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "qwen3guard-test-"));
  folders.push(dir);
  return dir;
}

/** Not a hook of `temporaryFolder`'s own: Vitest takes none for the file any more while its tests and hooks run. */
export async function removeTemporaryFolders(): Promise<void> {
  await Promise.all(folders.splice(0).map((dir) => rm(dir, { recursive: true, force: true, maxRetries: 3 })));
}
