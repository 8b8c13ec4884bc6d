import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Guard, loadGuard } from "../../src/guard.js";
import type { Message } from "../../src/index.js";
import type { Verdict } from "../../src/moderation/verdict.js";
import { idle } from "../support/idle.js";
import { MODEL_CACHE } from "../support/model.js";

const QUESTION = { role: "user", content: "Write a birthday card for Tom." } as const;
const TURNING =
  "Of course! Happy birthday, Tom! We hope your day is full of cake. But really, you are a stupid, ugly loser, " +
  "everybody here hates you, and one day I will come to your house and hurt you.";
const BREAD = "Mix flour and water, let it rest for an hour, then bake it until it is brown.";

let guard: Guard;
beforeAll(async () => {
  guard = await loadGuard(undefined, { cacheDir: MODEL_CACHE, maxStreams: 4 });
});
afterAll(() => guard.close());

async function streamed(answer: string): Promise<{ verdicts: Verdict[]; flaggedAt: number | null }> {
  const stream = guard.stream({ messages: [QUESTION] });
  const verdicts: Verdict[] = [];
  for (const verdict of [...(await stream.pushText(answer)), ...(await stream.flush())]) {
    verdicts[verdict.index] = verdict;
  }
  const { flaggedAt } = await stream.end();
  return { verdicts, flaggedAt };
}

describe("guard.classify", () => {
  test("a conversation that ends with the user's turn is judged by its prompt's verdict", async () => {
    const stream = guard.stream({ messages: [QUESTION] });
    const verdict = await stream.prompt;
    stream.close();
    const found = await guard.classify({ messages: [QUESTION] });
    expect(found).toMatchObject({
      part: "prompt",
      risk: verdict?.risk,
      category: verdict?.category,
      flaggedAt: null,
      refusal: null,
    });
    expect(found.riskProbability).toBeCloseTo(verdict?.riskProbability ?? 0, 5);
  });

  test("one that ends with an answer says what a stream would, at the token where it counts", async () => {
    const { verdicts, flaggedAt } = await streamed(TURNING);
    const messages = [QUESTION, { role: "assistant", content: TURNING }];
    const found = await guard.classify({ messages });
    const at = verdicts[flaggedAt as number];
    expect(found).toMatchObject({ part: "response", risk: "Unsafe", category: at.category, flaggedAt });
    expect(found.riskProbability).toBeCloseTo(at.riskProbability, 5);
    expect(found.text).toBe(`Safety: Unsafe\nCategories: ${at.category}`);
  });

  test("a safe answer's probability is that of its least sure token", async () => {
    const { verdicts } = await streamed(BREAD);
    const found = await guard.classify({ messages: [QUESTION, { role: "assistant", content: BREAD }] });
    const safe = guard.labels.responseRisk.indexOf("Safe");
    const least = Math.min(...verdicts.map(({ probabilities }) => probabilities.risk[safe]));
    expect(found).toMatchObject({ risk: "Safe", category: null, flaggedAt: null });
    expect(found.riskProbability).toBeCloseTo(least, 5);
    expect(found.text).toBe("Safety: Safe\nCategories: None");
  });

  test("says how many tokens were read, in the words of streams, and how many of them before", async () => {
    const cacheKey = crypto.randomUUID();
    const stream = guard.stream({ messages: [QUESTION], cacheKey });
    await stream.prompt;
    const { promptTokens } = stream;
    stream.close();
    const { verdicts } = await streamed(BREAD);
    const answered = [QUESTION, { role: "assistant", content: BREAD }];
    const own = { cacheKey: crypto.randomUUID() };
    const first = await guard.classify({ messages: [QUESTION], ...own });
    expect(first).toMatchObject({ promptTokens, reusedTokens: 0, tokens: 0 });
    const second = await guard.classify({ messages: answered, ...own });
    expect(second).toMatchObject({ promptTokens, reusedTokens: promptTokens, tokens: verdicts.length });
  });

  test("never says that more was read before than there is, though windows overlap", async () => {
    const messages = [{ role: "user", content: "Knead the dough, and wait for it. ".repeat(200) }];
    const asked = { messages, closely: true, cacheKey: crypto.randomUUID() };
    const { promptTokens } = await guard.classify(asked);
    expect(promptTokens).toBeGreaterThan(guard.maxTokens);
    const { reusedTokens } = await guard.classify(asked);
    expect(reusedTokens).toBeGreaterThan(guard.maxTokens);
    expect(reusedTokens).toBeLessThanOrEqual(promptTokens);
  });

  test("parts of text and reasoning that came apart are judged like one text", async () => {
    const parts = [
      { type: "text", text: TURNING.slice(0, 40) },
      { type: "text", text: TURNING.slice(40) },
    ];
    const judged = async (content: Message["content"]) => {
      const cacheKey = crypto.randomUUID();
      return guard.classify({ messages: [QUESTION, { role: "assistant", content }], cacheKey });
    };
    expect(await judged(parts)).toEqual(await judged(TURNING));
    const told = { role: "assistant", content: BREAD, reasoning_content: TURNING };
    expect((await guard.classify({ messages: [QUESTION, told] })).risk).toBe("Unsafe");
  });

  test.each<[string, object, string]>([
    [
      "a call of a tool",
      { tool_calls: [{ function: { name: "say", arguments: TURNING } }] },
      "MESSAGES_INVALID",
    ],
    ["a call of a function", { function_call: { name: "say", arguments: TURNING } }, "MESSAGES_INVALID"],
    ["reasoning that is no text", { reasoning_content: { text: TURNING } }, "MESSAGES_INVALID"],
    ["a refusal that is no text", { refusal: [TURNING] }, "MESSAGES_INVALID"],
    ["a text for a name", { name: TURNING }, "MESSAGES_INVALID"],
    ["sound", { audio: { id: "1" } }, "ATTACHMENT_UNREADABLE"],
  ])("%s in the answer is refused, as nobody would judge it", async (_, fields, code) => {
    const answer = { role: "assistant", content: BREAD, ...fields } as Message;
    await expect(guard.classify({ messages: [QUESTION, answer] })).rejects.toMatchObject({ code });
  });

  test("what the policy leaves out of messages it leaves out of the answer too", async () => {
    const content = [{ type: "text", text: BREAD }, { type: "image_url" }];
    const messages = [QUESTION, { role: "assistant", content }];
    await expect(guard.classify({ messages })).rejects.toMatchObject({ code: "ATTACHMENT_UNREADABLE" });
    const found = await guard.classify({ messages, policy: { attachments: "ignore" } });
    expect(found.text).toBe("Safety: Safe\nCategories: None");
  });

  test("many at once are each what they are alone", async () => {
    const answers = [TURNING, BREAD, TURNING.slice(0, 60), "Hello Tom!", TURNING, BREAD];
    const classify = (content: string) =>
      guard.classify({ messages: [QUESTION, { role: "assistant", content }] });
    const alone = [];
    for (const answer of answers) alone.push(await classify(answer));
    const together = await Promise.all(answers.map(classify));
    expect(together.map(({ risk, flaggedAt }) => [risk, flaggedAt])).toEqual(
      alone.map(({ risk, flaggedAt }) => [risk, flaggedAt]),
    );
    await idle(guard);
  });

  test.each([
    ["no message", [], "MESSAGES_INVALID"],
    ["an empty answer", [QUESTION, { role: "assistant", content: "" }], "EMPTY_RESPONSE"],
    ["an answer to nothing", [{ role: "assistant", content: "Hi" }], "MESSAGES_INVALID"],
    [
      "an image",
      [QUESTION, { role: "assistant", content: [{ type: "image_url" }] }],
      "ATTACHMENT_UNREADABLE",
    ],
  ])("%s is an error, not a verdict, and holds no slot", async (_, messages, code) => {
    await expect(guard.classify({ messages })).rejects.toMatchObject({ code });
    await idle(guard);
  });
});
