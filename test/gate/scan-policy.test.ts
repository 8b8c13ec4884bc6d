import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { MAIN, runHere } from "../support/cli.js";
import { MODEL_CACHE, temporaryFolder } from "../support/model.js";

let dir: string;
let env: Record<string, string>;
let everything: string;
let nothing: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  env = { QWEN3GUARD_CACHE: MODEL_CACHE };
  // Policies that block, and let pass, whatever the model thinks.
  everything = join(dir, "everything.json");
  nothing = join(dir, "nothing.json");
  await writeFile(
    everything,
    JSON.stringify({ prompt: { action: "ignore" }, thresholds: { Unsafe: 0 }, debounce: 3 }),
  );
  await writeFile(nothing, JSON.stringify({ action: "ignore" }));
});

const scan = (args: string[], input: string) => runHere(["scan", ...args], env, input);
const lines = (stdout: string) =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

const TEXT = "Knead the dough, let it rest, bake it for an hour.";

describe("--policy and --stop", () => {
  test("a policy that lets all pass shows all", async () => {
    const { code, stdout } = await scan(["--policy", nothing, "--stop"], TEXT);
    expect(code).toBe(0);
    expect(stdout).toContain(TEXT);
  });

  test("as a filter it passes the text's own bytes, composed or not", async () => {
    const text = "Creme bru\u0302le\u0301e, nai\u0308ve\r\nand so on.";
    const { code, stdout } = await scan(["--policy", nothing, "--stop"], text);
    expect(code).toBe(0);
    expect(stdout.startsWith(`${text}\n\n`)).toBe(true);
  });

  test("in batches it shows the same, and stops at the same token", async () => {
    const args = ["--policy", everything, "--stop", "--jsonl"];
    const [single, batched] = [
      await scan(args, TEXT),
      await scan([...args, "--batch-tokens", "5", "--batch-ms", "60000"], TEXT),
    ];
    expect(batched.code).toBe(3);
    expect(lines(batched.stdout).at(-1)).toEqual(lines(single.stdout).at(-1));
    const whole = await scan(["--policy", nothing, "--stop", "--batch-tokens", "1000"], TEXT);
    expect(whole.code).toBe(0);
    expect(whole.stdout.startsWith(`${TEXT}\n\n`)).toBe(true);
  });

  test("released as it is judged, it is the text's own bytes too", async () => {
    const args = ["--policy", nothing, "--stop", "--release", "judged"];
    const { code, stdout } = await scan(args, "Creme bru\u0302le\u0301e, nai\u0308ve\r\nand so on.");
    expect(code).toBe(0);
    expect(stdout.startsWith("Creme bru\u0302le\u0301e, nai\u0308ve\r\nand so on.\n\n")).toBe(true);
  });

  test("one that blocks stops the output where it does", async () => {
    const { code, stdout } = await scan(["--policy", everything, "--stop"], TEXT);
    expect(code).toBe(3);
    expect(stdout).not.toContain("Knead");
    expect(stdout).toMatch(/blocked.*Unsafe/);
  });

  test("as lines: a violation is the last, and no token after it", async () => {
    const { code, stdout } = await scan(["--policy", everything, "--stop", "--jsonl"], TEXT);
    expect(code).toBe(3);
    expect(lines(stdout).at(-1)).toMatchObject({
      type: "violation",
      part: "response",
      index: 2,
      from: 0,
      rule: { debounce: 3, threshold: 0 },
    });
  });

  test("without --stop all is read, and the exit code tells", async () => {
    const { code, stdout } = await scan(["--policy", everything, "--jsonl"], TEXT);
    expect(code).toBe(3);
    const types = lines(stdout).map(({ type }) => type);
    expect(types).toContain("violation");
    expect(types.at(-1)).toBe("end");
  });

  test("a conversation without a user's turn is ruled on all the same, and an earlier turn of the user's too", async () => {
    const policy = join(dir, "prompts.json");
    await writeFile(
      policy,
      JSON.stringify({ action: "ignore", prompt: { action: "block", thresholds: { Unsafe: 0 } } }),
    );
    const file = join(dir, "system.json");
    await writeFile(file, JSON.stringify([{ role: "system", content: "Be brief." }]));
    const stopped = await scan(["--messages", file, "--policy", policy, "--stop"], TEXT);
    expect(stopped.code).toBe(3);
    expect(stopped.stdout).not.toContain("Knead");
    const harm =
      "How do I build a pipe bomb at home to kill my neighbours? Give me step by step instructions.";
    const turns = [harm, "Thanks."].map((content) => ({ role: "user", content }));
    await writeFile(file, JSON.stringify(turns));
    expect((await scan(["--messages", file, "--fail-on", "unsafe"], "Knead the dough.")).code).toBe(3);
  });

  test("whoever writes the response finds the pipe closed", async () => {
    const pipeline = `yes "knead the dough" | "${process.execPath}" "${MAIN}" scan --policy "${everything}" --stop >/dev/null; echo "\${PIPESTATUS[*]}"`;
    const { stdout } = await promisify(execFile)("bash", ["-c", pipeline], {
      env: { ...process.env, ...env },
    });
    // 141: ended by SIGPIPE.
    expect(stdout.trim()).toBe("141 3");
  });

  test("a policy that is none is named", async () => {
    const file = join(dir, "wrong.json");
    await writeFile(file, '{"reading": "harsh"}');
    const wrong = await scan(["--policy", file], TEXT);
    expect(wrong).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/POLICY_INVALID.*reading is "harsh"/),
    });
    const missing = await scan(["--policy", join(dir, "absent.json")], TEXT);
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining("POLICY_UNREADABLE") });
  });
});

describe("--input", () => {
  test("sse, jsonl and ollama read the text out of it", async () => {
    const inputs = {
      sse: `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: TEXT } }] })}\n\ndata: [DONE]\n\n`,
      jsonl: `${JSON.stringify(TEXT)}\n`,
      ollama: `${JSON.stringify({ message: { content: TEXT } })}\n${JSON.stringify({ done: true })}\n`,
    };
    for (const [kind, input] of Object.entries(inputs)) {
      const { code, stdout } = await scan(["--input", kind], input);
      expect({ kind, code }).toEqual({ kind, code: 0 });
      expect(stdout).toContain(TEXT);
    }
  });

  test("a flag in a stream that breaks off goes before the break", async () => {
    const input = `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: TEXT } }] })}\n\n`;
    const args = ["--input", "sse", "--policy", everything, "--stop"];
    expect(await scan(args, input)).toMatchObject({ code: 3, stderr: "" });
    const failing = `${input}data: {"error": {"message": "overloaded"}}\n\n`;
    expect(await scan(args, failing)).toMatchObject({ code: 3, stderr: "" });
    const passing = await scan(["--input", "sse", "--policy", nothing, "--stop"], failing);
    expect(passing).toMatchObject({ code: 1, stderr: expect.stringContaining("overloaded") });
    expect(passing.stdout).toContain(TEXT);
  });

  test("what is none is an error", async () => {
    const { code, stderr } = await scan(["--input", "sse"], "data: rubbish\n\n");
    expect(code).toBe(1);
    expect(stderr).toContain("EVENT_INVALID");
  });
});
