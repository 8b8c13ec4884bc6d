import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/support/build.ts",
    testTimeout: 60_000,
    hookTimeout: 300_000,
    // Each worker loads an ONNX Runtime of its own: more workers than cores only fight.
    maxWorkers: 2,
    pool: "forks",
  },
});
