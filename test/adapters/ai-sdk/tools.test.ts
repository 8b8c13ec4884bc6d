import { afterEach, describe, expect, test } from "vitest";
import type { PolicyData } from "../../../src/moderation/policy.js";
import { ScriptedStream } from "../../gate/scripted.js";
import { finish, type GenerateResult, MAJORS, models, type StreamPart, text } from "./majors.js";

/** The scripted guard flags two words in a row with BAD in them. */
const SAFE = '{"city":"Oslo"}';
const FLAGGED = '{"query":"a BAD BAD thing"}';
const HIDDEN = '{"query":"a \\u0042AD B\\u0041D thing"}';
const judge: PolicyData = { tools: "judge" };

type Called = Extract<GenerateResult["content"][number], { type: "tool-call" }>;
const called = (input: string, toolName = "look"): Called => ({
  type: "tool-call",
  toolCallId: "c",
  toolName,
  input,
});
/** A call as it comes piece by piece, and then whole. */
const pieces = (input: string, toolName = "look"): StreamPart[] => [
  { type: "tool-input-start", id: "c", toolName },
  ...(input.match(/.{1,5}/gs) as string[]).map(
    (delta): StreamPart => ({ type: "tool-input-delta", id: "c", delta }),
  ),
  { type: "tool-input-end", id: "c" },
  called(input, toolName),
];

describe.each(MAJORS)("ai $major", ({ Mock, sdk }) => {
  const { generating, streaming } = models({ Mock, sdk });

  afterEach(async () => {
    await expect.poll(() => ScriptedStream.open).toBe(0);
  });

  /** All parts that a model's stream gives behind the middleware, and what the guard was given. */
  async function streamed(parts: StreamPart[], policy: PolicyData, mode?: "stream-first") {
    const { model, streams } = streaming([...parts, finish], { policy, mode });
    const { stream } = await (model as unknown as InstanceType<typeof Mock>).doStream({
      prompt: [],
    } as never);
    const out: StreamPart[] = [];
    for await (const part of stream as unknown as AsyncIterable<StreamPart>) out.push(part);
    return { out, pushed: streams[0]?.pushes.join("") ?? "" };
  }

  async function generated(content: GenerateResult["content"], policy: PolicyData) {
    const { model } = generating(content, { policy });
    return (model as unknown as InstanceType<typeof Mock>).doGenerate({ prompt: [] } as never);
  }

  const reason = (out: StreamPart[]) =>
    out.flatMap((part) => (part.type === "finish" ? [part.finishReason.unified] : []));

  describe.each([
    ["piece by piece", pieces],
    ["at once", (input: string, name?: string) => [called(input, name)]],
  ])("a call that is judged, %s", (_, call) => {
    test("comes out as it came where it is safe, behind its verdict", async () => {
      const parts = [...text("1", "Let me look. "), ...call(SAFE)];
      const { out, pushed } = await streamed(parts, judge);
      expect(out.filter(({ type }) => type.startsWith("tool-"))).toEqual(call(SAFE));
      expect(pushed).toMatch(/Let me look\. [\s\S]*look[\s\S]*\{"city":"Oslo"\}/);
      // What came piece by piece is not judged again as a whole.
      expect(pushed.match(/Oslo/g)).toHaveLength(1);
      expect(reason(out)).toEqual(["stop"]);
    });

    test.each([
      ["plainly", FLAGGED],
      ["in escapes", HIDDEN],
    ])("that is flagged, spelled %s, never becomes whole", async (_, input) => {
      const { out } = await streamed([...text("1", "Let me look. "), ...call(input)], judge);
      expect(out.some(({ type }) => type === "tool-call")).toBe(false);
      const shown = out.flatMap((part) => (part.type === "tool-input-delta" ? [part.delta] : [])).join("");
      expect(input.startsWith(shown)).toBe(true);
      expect(shown).not.toContain("thing");
      expect(reason(out)).toEqual(["content-filter"]);
      const open = out.filter(({ type }) => type === "tool-input-start").length;
      expect(out.filter(({ type }) => type === "tool-input-end")).toHaveLength(open);
    });

    test("whose name is flagged is not told of at all", async () => {
      const { out } = await streamed([...text("1", "Let me look. "), ...call(SAFE, "BAD BAD")], judge);
      expect(out.some(({ type }) => type.startsWith("tool-"))).toBe(false);
      expect(reason(out)).toEqual(["content-filter"]);
    });

    test("passes unread where the policy says so, as it does by default", async () => {
      for (const policy of [{}, { tools: "pass" }] as const) {
        const { out, pushed } = await streamed([...text("1", "Let me look. "), ...call(FLAGGED)], policy);
        expect(out.filter(({ type }) => type.startsWith("tool-"))).toEqual(call(FLAGGED));
        expect(pushed).not.toContain("BAD");
      }
    });

    test("ends the answer with an error where the policy refuses it", async () => {
      const { out } = await streamed([...text("1", "Let me look. "), ...call(SAFE)], { tools: "refuse" });
      expect(out.some(({ type }) => type.startsWith("tool-"))).toBe(false);
      expect(out.find(({ type }) => type === "error")).toMatchObject({
        error: { code: "TOOL_CALL_REFUSED" },
      });
      expect(reason(out)).toEqual(["error"]);
    });
  });

  test("a call whose whole is another than its pieces is judged as both", async () => {
    const { out } = await streamed([...pieces(SAFE).slice(0, -1), called(FLAGGED)], judge);
    expect(out.some(({ type }) => type === "tool-call")).toBe(false);
    expect(reason(out)).toEqual(["content-filter"]);
    const renamed = await streamed([...pieces(SAFE).slice(0, -1), called(SAFE, "BAD BAD")], judge);
    expect(renamed.out.some(({ type }) => type === "tool-call")).toBe(false);
  });

  test("a call under the id of one that was no JSON is read as JSON", async () => {
    const earlier: StreamPart[] = [
      { type: "tool-input-start", id: "c", toolName: "look", inputEncoding: "text" } as StreamPart,
      { type: "tool-input-delta", id: "c", delta: "a" },
      { type: "tool-input-end", id: "c" },
      called('"a"'),
    ];
    const { out } = await streamed([...earlier, ...pieces(HIDDEN)], judge);
    expect(out.filter(({ type }) => type === "tool-call")).toEqual([called('"a"')]);
    expect(reason(out)).toEqual(["content-filter"]);
  });

  test("an input that came as an object is judged by the texts in it", async () => {
    const object = { ...called(""), input: { query: ["a BAD BAD thing"] } } as unknown as Called;
    const { out } = await streamed([object], judge);
    expect(out.map(({ type }) => type)).toEqual(["finish"]);
    expect(reason(out)).toEqual(["content-filter"]);
    expect((await generated([object], judge)).content).toEqual([]);
  });

  test("an input, or a result, that makes its own JSON is judged as that", async () => {
    const own = { toJSON: () => ({ query: "a BAD BAD thing" }) };
    const result = { type: "tool-result", toolCallId: "c", toolName: "look", result: own };
    for (const parts of [[{ ...called(""), input: own }], [called(SAFE), result]]) {
      const { out } = await streamed(parts as unknown as StreamPart[], judge);
      expect(reason(out)).toEqual(["content-filter"]);
      expect(JSON.stringify(out)).not.toContain("BAD");
    }
  });

  test("streamed first, a call leaves as text does, and a flag ends what follows", async () => {
    const { out } = await streamed([...pieces(FLAGGED), ...text("1", "so")], judge, "stream-first");
    expect(out.some(({ type }) => type === "tool-input-delta")).toBe(true);
    expect(reason(out)).toEqual(["content-filter"]);
  });

  test("pieces that are no JSON are judged as they are", async () => {
    const parts: StreamPart[] = [
      { type: "tool-input-start", id: "c", toolName: "look", inputEncoding: "text" } as StreamPart,
      { type: "tool-input-delta", id: "c", delta: "a \\u0042 and" },
      { type: "tool-input-end", id: "c" },
      called(JSON.stringify("a \\u0042 and")),
    ];
    const { out, pushed } = await streamed(parts, judge);
    expect(out.filter(({ type }) => type.startsWith("tool-"))).toEqual(parts);
    expect(pushed).toContain("a \\u0042 and");
    expect(pushed.match(/and/g)).toHaveLength(1);
  });

  test("pieces of two calls that come in turns are each read as one text", async () => {
    const [one, two] = ["1", "2"].map(
      (id) =>
        (delta: string): StreamPart => ({ type: "tool-input-delta", id, delta }),
    );
    const start = (id: string): StreamPart => ({ type: "tool-input-start", id, toolName: "look" });
    const { out } = await streamed(
      [start("1"), start("2"), one('{"a":"BAD '), two('{"b":"fine '), one('BAD "}'), two('too"}')],
      judge,
    );
    expect(reason(out)).toEqual(["content-filter"]);
  });

  test("results of a provider's own tools are judged with its calls, unless the policy lets results pass", async () => {
    const result = {
      type: "tool-result",
      toolCallId: "c",
      toolName: "search",
      result: [{ title: "a BAD BAD page", encryptedContent: "QkFEIEJBRA==" }],
    } as StreamPart;
    const stopped = await streamed([called(SAFE), result], judge);
    expect(stopped.out.map(({ type }) => type)).toEqual(["tool-call", "finish"]);
    expect(stopped.pushed).not.toContain("QkFE");
    for (const policy of [{ tools: "judge", toolResults: "pass" }, { tools: "pass" }] as const) {
      expect((await streamed([called(SAFE), result], policy)).out).toContainEqual(result);
    }
  });

  test("a text in a result is judged under a name for what is sealed too", async () => {
    const result = (signature: string) =>
      ({ type: "tool-result", toolCallId: "c", toolName: "mail", result: { signature } }) as StreamPart;
    const { out } = await streamed([called(SAFE), result("Yours, BAD BAD thing")], judge);
    expect(out.map(({ type }) => type)).toEqual(["tool-call", "finish"]);
    const sealed = await streamed([called(SAFE), result("QkFEIEJBRA==")], judge);
    expect(sealed.out).toContainEqual(result("QkFEIEJBRA=="));
    expect(sealed.pushed).not.toContain("QkFE");
  });

  describe("of an answer that comes at once", () => {
    const said = { type: "text" as const, text: "Let me look." };

    test("a safe call is part of it", async () => {
      const { content, finishReason } = await generated([said, called(SAFE)], judge);
      expect(content).toEqual([said, called(SAFE)]);
      expect(finishReason.unified).toBe("stop");
    });

    test.each([FLAGGED, HIDDEN])("a flagged one leaves none, those before it neither: %s", async (input) => {
      const { content, finishReason } = await generated([said, called(SAFE), called(input)], judge);
      expect(content).toEqual([said]);
      expect(finishReason.unified).toBe("content-filter");
    });

    test("it fails where calls are refused, and passes where they pass", async () => {
      await expect(generated([said, called(SAFE)], { tools: "refuse" })).rejects.toMatchObject({
        code: "TOOL_CALL_REFUSED",
      });
      expect((await generated([said, called(FLAGGED)], {})).content).toEqual([said, called(FLAGGED)]);
    });
  });
});
