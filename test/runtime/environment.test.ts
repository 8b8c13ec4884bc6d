import { expect, test } from "vitest";
import { built, runProgram } from "../support/program.js";

const PROGRAM = `
  import { setEnvironment } from ${JSON.stringify(built("runtime/environment.js"))};
  import koffi from ${JSON.stringify(built("runtime/ffi.js"))};
  const read = koffi.load(null).func("const char* getenv(const char* name)");
  for (const value of ["one", "two", undefined]) {
    setEnvironment("QWEN3GUARD_TEST", value);
    console.log(read("QWEN3GUARD_TEST"), process.env.QWEN3GUARD_TEST);
  }
`;
const SEEN = "one one\ntwo two\nnull undefined\n";

test.skipIf(process.platform === "win32")("native libraries see what is set, on any thread", async () => {
  expect(await runProgram(PROGRAM)).toBe(SEEN);
  const onWorker = `
    import { Worker } from "node:worker_threads";
    new Worker(new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(PROGRAM)})));
  `;
  expect(await runProgram(onWorker)).toBe(SEEN);
});
