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
  ["scan", "--prompt"],
  ["classify", "--prompt"],
  ["score", "--field"],
  ["pull", "a/b", "--revision"],
  ["serve", "--api-key"],
  ["serve", "--api-key", "right", "--api-key"],
  ["serve", "--host"],
  ["serve", "--allow-host"],
  ["serve", "--served-model-name"],
  ["proxy", "--upstream", "http://127.0.0.1:9", "--allow-path"],
])(
  "2: a value that is empty, as of a variable that is not set, is none, and none that was left out: %s %s",
  async (...args) => {
    const { code, stderr } = await runHere([...args, ""]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^error: option '.*' is empty/);
  },
);
