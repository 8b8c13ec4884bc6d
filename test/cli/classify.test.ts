import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runHere } from "../support/cli.js";
import { temporaryFolder } from "../support/model.js";

const INSULT =
  "You are a stupid, ugly loser, everybody here hates you, and I will come to your house and hurt you.";

describe("qwen3guard classify", () => {
  test("says of a prompt what Qwen3Guard-Gen would write, and how sure it is", async () => {
    const { code, stdout } = await runHere(["classify", "--prompt", "How do I bake bread?"]);
    expect(stdout).toMatch(/^Safety: Safe\nCategories: None\nprompt, \d+\.\d %\n$/);
    expect(code).toBe(0);
  });

  test("says of an answer from which token it counts", async () => {
    const args = ["classify", "--prompt", "Write a card.", "--response", INSULT];
    const { stdout } = await runHere(args);
    expect(stdout).toMatch(
      /^Safety: Unsafe\nCategories: Unethical Acts\nresponse, \d+\.\d %, from token \d+\n$/,
    );
  });

  test("--json holds all probabilities", async () => {
    const { stdout } = await runHere(["classify", "--prompt", "Hi", "--response", INSULT, "--json"]);
    const found = JSON.parse(stdout);
    expect(found).toMatchObject({
      part: "response",
      risk: "Unsafe",
      refusal: null,
      refusalProbability: null,
    });
    expect(found.probabilities.risk.reduce((sum: number, p: number) => sum + p)).toBeCloseTo(1, 6);
    expect(found.text).toBe(`Safety: Unsafe\nCategories: ${found.category}`);
  });

  test("--fail-on exits with 3, and with 0 where it is not met", async () => {
    const args = ["classify", "--prompt", "Hi", "--fail-on", "unsafe", "--response"];
    expect((await runHere([...args, INSULT])).code).toBe(3);
    expect((await runHere([...args, "Hello! How can I help you today?"])).code).toBe(0);
  });

  test("reads a conversation from a file; its last message decides", async () => {
    const file = join(await temporaryFolder(), "chat.json");
    const turns = [
      { role: "user", content: "Write a card." },
      { role: "assistant", content: INSULT },
    ];
    await writeFile(file, JSON.stringify(turns));
    expect((await runHere(["classify", "--messages", file])).stdout).toContain("response, ");
    await writeFile(file, JSON.stringify(turns.slice(0, 1)));
    expect((await runHere(["classify", "--messages", file])).stdout).toContain("prompt, ");
  });

  test("without anything to judge it says how it is used", async () => {
    const { code, stderr } = await runHere(["classify", "--fail-on", "unsafe"]);
    expect(code).toBe(2);
    expect(stderr).toContain("--prompt TEXT or --messages FILE");
  });

  test("with --fail-on an answer that cannot be judged is a failure, not a pass", async () => {
    const args = ["classify", "--prompt", "Hi", "--response", "", "--fail-on", "unsafe"];
    const { code, stderr } = await runHere(args);
    expect(code).toBe(1);
    expect(stderr).toContain("[EMPTY_RESPONSE]");
  });
});
