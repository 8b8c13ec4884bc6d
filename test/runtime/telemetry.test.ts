import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { MODEL_CACHE, temporaryFolder } from "../support/model.js";
import { PACKAGE, runProgram } from "../support/program.js";

/** A program that judges a token with the embedded guard. */
const JUDGE = `
  import { loadGuard } from ${JSON.stringify(PACKAGE)};
  const guard = await loadGuard();
  const stream = guard.stream({ messages: [{ role: "user", content: "Hi" }] });
  await stream.pushText("Hello there");
  console.log((await stream.end()).risk);
  await guard.close();
`;
const JUDGE_ON_A_WORKER = `
  import { Worker } from "node:worker_threads";
  new Worker(new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(JUDGE)})));
`;

test.each([
  ["on the main thread", JUDGE, {}],
  ["on a worker thread", JUDGE_ON_A_WORKER, {}],
  ["where the user's own setting would turn telemetry on", JUDGE, { ORT_DISABLE_TELEMETRY: "0" }],
])(
  "judging %s writes nothing into the user's home and the temporary folder",
  async (_where, program, env) => {
    const folder = await temporaryFolder();
    const [home, temporary] = [join(folder, "home"), join(folder, "tmp")];
    await Promise.all([mkdir(home), mkdir(temporary)]);
    const stdout = await runProgram(program, {
      env: { HOME: home, TMPDIR: temporary, QWEN3GUARD_CACHE: MODEL_CACHE, ...env },
    });
    expect(stdout).toBe("Safe\n");
    expect(await readdir(home)).toEqual([]);
    expect(await readdir(temporary)).toEqual([]);
  },
);

test("a command line of 100 kB is survived", async () => {
  const env = { QWEN3GUARD_CACHE: MODEL_CACHE };
  expect(await runProgram(JUDGE, { env, args: ["a".repeat(100_000)] })).toBe("Safe\n");
});
