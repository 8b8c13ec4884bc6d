import { expect, test } from "vitest";
import { runHere } from "../support/cli.js";

test.each([
  ["scan", "--policy"],
  ["classify", "--messages"],
  ["eval", "rows.jsonl", "--type", "prompt", "--report"],
  ["eval", "rows.jsonl", "--type", "prompt", "--out"],
  ["serve", "--policy"],
  ["serve", "--api-key-file"],
  ["proxy", "--upstream", "http://127.0.0.1:9", "--policies"],
  ["proxy", "--upstream", "http://127.0.0.1:9", "--audit"],
  ["cuda", "install", "--from"],
  ["doctor", "--model"],
])(
  "2: a name that is empty, as of a variable that is not set, is none that was left out: %s %s",
  async (...args) => {
    const { code, stderr } = await runHere([...args, ""]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^error: option '.*' is empty/);
  },
);
