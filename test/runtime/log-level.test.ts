import { expect, test } from "vitest";
import { built, runProgram } from "../support/program.js";

const PROGRAM = `
  import { ortApi } from ${JSON.stringify(built("runtime/api.js"))};
  try {
    console.log(ortApi().version.length > 0);
  } catch ({ code, message }) {
    console.log(code, message);
  }
`;

test("ONNX Runtime's log level comes from the environment, and nonsense is refused", async () => {
  expect(await runProgram(PROGRAM, { env: { QWEN3GUARD_ORT_LOG: "1" } })).toBe("true\n");
  expect(await runProgram(PROGRAM, { env: { QWEN3GUARD_ORT_LOG: "verbose" } })).toBe(
    'OPTION_INVALID QWEN3GUARD_ORT_LOG is "verbose"; it must be a number from 0 to 4.\n',
  );
});
