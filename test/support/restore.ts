import { afterAll, vi } from "vitest";

// What a file has replaced is put back when it is done: the next one may have the same process.
afterAll(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});
