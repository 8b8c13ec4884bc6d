import { expect, test } from "vitest";
import { built, PACKAGE, runProgram } from "../support/program.js";

// glibc's parser of regular expressions calls itself for each parenthesis: by koffi's own stacks a call on a worker
// thread dies at 500 of them, a call on this thread at 5,000.
const DEEP = `
  const pattern = "(".repeat(8000) + "a" + ")".repeat(8000);
  const compile = koffi.load(null).func("int regcomp(void* compiled, const char* pattern, int flags)");
  const compiled = Buffer.alloc(256);
  console.log(compile(compiled, pattern, 1));
  compile.async(compiled, pattern, 1, (error, status) => console.log(error ?? status, compiled.length));
`;
const IMPORT = `import koffi from ${JSON.stringify(built("runtime/ffi.js"))};`;

test.runIf(process.platform === "linux")("native code may call itself some thousand times deep", async () => {
  expect(await runProgram(IMPORT + DEEP)).toBe("0\n0 256\n");
});

test.runIf(process.platform === "linux")("and on a worker thread too", async () => {
  const program = `
    import { Worker } from "node:worker_threads";
    new Worker(new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(IMPORT + DEEP)})));
  `;
  expect(await runProgram(program)).toBe("0\n0 256\n");
});

test("who used koffi before is warned", async () => {
  const program = `
    import { createRequire } from "node:module";
    process.on("warning", ({ code }) => console.log(code));
    createRequire(${JSON.stringify(PACKAGE)})("koffi").load(null);
    await import(${JSON.stringify(PACKAGE)});
  `;
  expect(await runProgram(program)).toBe("QWEN3GUARD_SMALL_STACKS\n");
});
