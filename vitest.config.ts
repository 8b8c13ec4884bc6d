import { readdirSync, readFileSync } from "node:fs";
import { defineConfig } from "vitest/config";
import { LongestFirst } from "./test/support/longest-first.js";

/** What leaves traces in a process that nothing wipes out: modules that are replaced, the environment. */
const TRACES = /\bvi\.(mock|doMock|resetModules)\(|\bprocess\.(env\.\w+ =|chdir\()/;

const files = (readdirSync(new URL("test", import.meta.url), { recursive: true }) as string[])
  .map((name) => `test/${name.replaceAll("\\", "/")}`)
  .filter((name) => name.endsWith(".test.ts"));
const alone = files.filter((name) => TRACES.test(readFileSync(new URL(name, import.meta.url), "utf8")));
const together = files.filter((name) => !alone.includes(name));

const shared = {
  // Limits find what hangs; how long anything takes is for the benches, on machines that nobody else uses.
  testTimeout: 240_000,
  expect: { poll: { timeout: 20_000 } },
  hookTimeout: 300_000,
  // Two more than cores, on the smallest machine: many tests wait for a process, a browser or a file.
  maxWorkers: 4,
  pool: "forks",
  // Most of what a test makes lives as long as the test: too long for the garbage collector's first, small space.
  execArgv: ["--max-semi-space-size=32"],
  setupFiles: "test/support/tidy.ts",
} as const;

export default defineConfig({
  test: {
    globalSetup: "test/support/build.ts",
    sequence: { sequencer: LongestFirst },
    // A process for each file would take half a second of the processor for it, mostly to load modules again.
    projects: [
      { test: { ...shared, name: "alone", include: alone } },
      { test: { ...shared, name: "together", include: together, isolate: false } },
    ],
  },
});
