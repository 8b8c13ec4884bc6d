import { afterAll, vi } from "vitest";
import { removeTemporaryFolders } from "./temporary-folder.js";

// What a file has replaced is put back when it is done, for the next one may have the same process; and its folders go.
afterAll(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
  vi.useRealTimers();
  await removeTemporaryFolders();
});
