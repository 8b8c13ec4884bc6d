import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { contend } from "../../bench/contender.js";

const run = (script: string, input?: string) => contend(process.execPath, ["-e", script], input);

beforeEach(() => void vi.spyOn(process.stderr, "write").mockReturnValue(true));
afterEach(() => void vi.restoreAllMocks());

test("a contender's result is what stands behind RESULT, whatever else it prints", () => {
  expect(run('console.log("warming up"); console.log(`RESULT {"ms": [1.5]}`); console.log("bye")')).toEqual({
    result: { ms: [1.5] },
  });
  expect(run('process.stdin.on("data", (text) => console.log("RESULT " + text))', "[7]")).toEqual({
    result: [7],
  });
});

test("a contender that fails its own check is left out, with what it said last", () => {
  const outcome = run(
    'console.log(`RESULT {"ms": [0.1]}`); console.error("loading\\nlogits 0.3 apart"); process.exit(1)',
  );
  expect(outcome).toEqual({ failed: "logits 0.3 apart" });
});

test("a contender that is killed, says nothing or is not there is left out too", () => {
  expect(run('process.kill(process.pid, "SIGKILL")')).toEqual({
    failed: "it ended with status null and no result",
  });
  expect(run("")).toEqual({ failed: "it ended with status 0 and no result" });
  expect(contend("/nowhere/python", [])).toEqual({ failed: expect.stringContaining("ENOENT") });
});
