import { afterEach, describe, expect, test, vi } from "vitest";
import { guardMiddleware } from "../../../src/adapters/ai-sdk.js";
import { ScriptedStream, scriptedGuard } from "../../gate/scripted.js";
import { finish, MAJORS, models, type StreamPart, text, usage } from "./majors.js";

const delta = (id: string, delta: string): StreamPart => ({ type: "text-delta", id, delta });
const start = (id: string): StreamPart => ({ type: "text-start", id });
const end = (id: string): StreamPart => ({ type: "text-end", id });

afterEach(async () => {
  await expect.poll(() => ScriptedStream.open).toBe(0);
});

describe.each(MAJORS)("ai $major", ({ Mock, sdk }) => {
  const { generateText, jsonSchema, Output, streamObject, streamText, wrapLanguageModel } = sdk;
  const { generating, streaming } = models({ Mock, sdk });
  const prompt = [{ role: "user" as const, content: [{ type: "text" as const, text: "Hi" }] }];

  /** The parts that a model's stream has behind the middleware. */
  async function partsOf(
    parts: StreamPart[],
    ...args: Parameters<typeof streaming> extends [unknown, ...infer R] ? R : never
  ) {
    const { model, streams } = streaming(parts, ...args);
    const out: StreamPart[] = [];
    for await (const part of (await model.doStream({ prompt })).stream) out.push(part as StreamPart);
    return { out, read: streams[0].pushes.join("") };
  }

  describe("at a flag", () => {
    test("every block that was opened is ended before the finish: text, reasoning and tool inputs", async () => {
      const { out } = await partsOf([
        { type: "reasoning-start", id: "r" },
        { type: "reasoning-delta", id: "r", delta: "hm" },
        { type: "tool-input-start", id: "c", toolName: "look" },
        { type: "tool-input-delta", id: "c", delta: "{" },
        start("t"),
        delta("t", "so BAD BAD"),
        end("t"),
        { type: "tool-input-end", id: "c" },
        finish,
      ]);
      expect(out.slice(-4).map((part) => [part.type, "id" in part ? part.id : null])).toEqual([
        ["reasoning-end", "r"],
        ["tool-input-end", "c"],
        ["text-end", "t"],
        ["finish", null],
      ]);
    });

    test("and where the guard fails", async () => {
      const { out } = await partsOf(
        [start("t"), delta("t", "one two three"), end("t"), finish],
        {},
        { failAt: 2 },
      );
      expect(out.map(({ type }) => type)).toEqual(["text-start", "text-end", "error", "finish"]);
    });

    test("usage keeps its figures and loses what the provider adds", async () => {
      const raw = { told: "BAD BAD" };
      const { out } = await partsOf([
        ...text("t", "so BAD BAD"),
        { ...finish, usage: { ...usage, raw } } as StreamPart,
      ]);
      expect(out.at(-1)).toMatchObject({ type: "finish", usage });
      expect(JSON.stringify(out.at(-1))).not.toContain("BAD");
    });

    test("the text that was cut comes without what the provider tells of it", async () => {
      const providerMetadata = { mock: { logprobs: [{ token: "BAD" }] } };
      const { model } = generating([
        { type: "text", text: "fine", providerMetadata: { mock: { id: "kept" } } },
        { type: "text", text: "so BAD BAD", providerMetadata },
      ]);
      const { content, finishReason } = await model.doGenerate({ prompt });
      expect(content).toEqual([
        { type: "text", text: "fine", providerMetadata: { mock: { id: "kept" } } },
        { type: "text", text: "so" },
      ]);
      expect(finishReason.unified).toBe("content-filter");
    });

    test("fields of the result that nobody knows do not say it again", async () => {
      const { guard } = scriptedGuard();
      const result = {
        content: [{ type: "text" as const, text: "so BAD BAD" }],
        finishReason: finish,
        usage,
        warnings: [],
      };
      const mock = new Mock({ doGenerate: async () => ({ ...result, verbose: "so BAD BAD" }) as never });
      const model = wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard) });
      expect(JSON.stringify(await model.doGenerate({ prompt }))).not.toContain("BAD");
    });
  });

  describe("blocks in turns", () => {
    test("a word in two pieces, with another block between, is judged as its reader sees it", async () => {
      const { out, read } = await partsOf([
        start("a"),
        start("b"),
        delta("a", "you B"),
        delta("b", "All is well."),
        delta("a", "AD BAD"),
        end("b"),
        end("a"),
        finish,
      ]);
      expect(read).toContain("you BAD BAD");
      expect(out.at(-1)).toMatchObject({ finishReason: { unified: "content-filter" } });
    });

    test("clean ones come out whole, each with its own text", async () => {
      const { out } = await partsOf([
        ...[start("a"), start("b"), delta("a", "on"), delta("b", "tw"), delta("a", "e "), delta("b", "o ")],
        ...[delta("a", "more"), end("a"), delta("b", "more"), end("b"), finish],
      ]);
      const of = (id: string) =>
        out.map((part) => (part.type === "text-delta" && part.id === id ? part.delta : "")).join("");
      expect([of("a"), of("b")]).toEqual(["one more", "two more"]);
    });

    test("a source that is named in the middle of a word does not cut it for the guard", async () => {
      const source: StreamPart = { type: "source", sourceType: "url", id: "s", url: "http://x" };
      const { out } = await partsOf([
        start("a"),
        delta("a", "you B"),
        source,
        delta("a", "AD BA"),
        source,
        delta("a", "D"),
        end("a"),
        finish,
      ]);
      expect(out.at(-1)).toMatchObject({ finishReason: { unified: "content-filter" } });
    });
  });

  describe("parts that nobody knows", () => {
    const unknown = { type: "subtitle", text: "BAD BAD" } as unknown as StreamPart;

    test("are left out, unless the policy lets pass what cannot be judged", async () => {
      const parts = [unknown, ...text("t", "fine"), finish];
      expect(JSON.stringify((await partsOf(parts)).out)).not.toContain("BAD");
      const open = await partsOf(parts, { policy: { unjudged: "pass" } });
      expect(JSON.stringify(open.out)).toContain("BAD");
    });

    test("of an answer at once too", async () => {
      const content = [unknown, { type: "text", text: "fine" }] as never;
      expect((await generating(content).model.doGenerate({ prompt })).content).toHaveLength(1);
      const open = generating(content, { policy: { unjudged: "pass" } });
      expect((await open.model.doGenerate({ prompt })).content).toHaveLength(2);
    });
  });

  describe("where the policy fails open", () => {
    const options = () => ({ policy: { failOpen: true }, onFailure: vi.fn() });
    const failure = { code: "LOGITS_NOT_FINITE" };

    test("a stream goes on, its metadata name the failure beside the provider's own, and somebody is told", async () => {
      const given = options();
      const last = { ...finish, providerMetadata: { mock: { a: 1 } } } as StreamPart;
      const { out } = await partsOf([...text("t", "one two", " BAD BAD"), last], given, { failAt: 2 });
      expect(out.map((part) => (part.type === "text-delta" ? part.delta : "")).join("")).toBe(
        "one two BAD BAD",
      );
      expect(out.at(-1)).toMatchObject({ providerMetadata: { mock: { a: 1 }, qwen3guard: { failure } } });
      expect(given.onFailure).toHaveBeenCalledExactlyOnceWith(expect.objectContaining(failure));
    });

    test("so does an answer at once", async () => {
      const given = options();
      const { model } = generating([{ type: "text", text: "one two" }], given, { failAt: 1 });
      const { content, providerMetadata } = await model.doGenerate({ prompt });
      expect(content).toEqual([{ type: "text", text: "one two" }]);
      expect(providerMetadata).toEqual({ qwen3guard: { failure } });
      expect(given.onFailure).toHaveBeenCalledOnce();
    });

    test("who throws when told keeps it closed", async () => {
      const thrown = new Error("no");
      const onFailure = () => {
        throw thrown;
      };
      const given = { policy: { failOpen: true }, onFailure };
      const { out } = await partsOf([...text("t", "one two"), finish], given, { failAt: 2 });
      expect(out.find(({ type }) => type === "error")).toMatchObject({ error: thrown });
    });

    test("a provider that floods with deltas of nothing does not open it", async () => {
      const empty = { ...delta("t", ""), providerMetadata: { mock: {} } } as StreamPart;
      const flood = Array.from({ length: 9000 }, () => empty);
      const given = options();
      const { out } = await partsOf(
        [start("t"), delta("t", "BAD"), ...flood, delta("t", " BAD"), finish],
        given,
      );
      expect(JSON.stringify(out)).not.toContain("BAD");
      expect(given.onFailure).not.toHaveBeenCalled();
      expect(out.find(({ type }) => type === "error")).toMatchObject({ error: { code: "HELD_TOO_MUCH" } });
    });
  });

  test("options that nobody knows are refused by name", () => {
    const { guard } = scriptedGuard();
    const wrong = (options: object) => () => guardMiddleware(guard, options);
    expect(wrong({ onViolations() {} })).toThrow(/no option "onViolations".*Did you mean onViolation/);
    expect(wrong({ mode: "holdback" })).toThrow(/mode of guardMiddleware is "holdback"/);
  });

  describe("JSON", () => {
    const schema = jsonSchema<{ a: string }>({ type: "object", properties: { a: { type: "string" } } });
    const hidden = '{"a": "so \\u0042A\\u0044 BAD"}';

    test("a text that escapes hide is judged as the object has it", async () => {
      const { model, streams } = streaming([...text("t", ...hidden.split(/(?<=\\u0)/)), finish]);
      const result = streamObject({ model, schema, prompt: "Hi", onError() {} });
      const partial = [];
      for await (const object of result.partialObjectStream) partial.push(object);
      expect(streams[0].pushes.join("")).toContain('{"a": "so BAD BAD"}');
      expect(JSON.stringify(partial)).not.toContain("BAD");
      expect(await result.finishReason).toBe("content-filter");
    });

    test("in a key as in a value", async () => {
      const { model } = streaming([...text("t", '{"\\u0042AD": 1, "B\\u0041D": 2}'), finish], {
        policy: { debounce: 1 },
      });
      const result = streamText({ model, output: Output.json(), prompt: "Hi", onError() {} });
      expect(await result.finishReason).toBe("content-filter");
    });

    test("at once", async () => {
      const { model } = generating([{ type: "text", text: hidden }]);
      const result = await model.doGenerate({ prompt, responseFormat: { type: "json" } });
      expect(result.finishReason.unified).toBe("content-filter");
      expect(result.content).toEqual([{ type: "text", text: '{"a": "so' }]);
    });

    test("what passes comes out with its escapes, byte for byte", async () => {
      const json = '{"a": "caf\\u00e9 \\ud83d\\ude00 \\"so\\" \\/ \\\\u0073\\n"}';
      const { model } = streaming([...text("t", ...json.split(/(?<=[\\u])/)), finish]);
      const stream = streamText({ model, output: Output.object({ schema }), prompt: "Hi" });
      expect(await stream.text).toBe(json);
      expect(await stream.output).toEqual(JSON.parse(json));
      const whole = generating([{ type: "text", text: json }]);
      const result = await generateText({
        model: whole.model,
        output: Output.object({ schema }),
        prompt: "Hi",
      });
      expect(result.text).toBe(json);
    });

    test("without a JSON format a backslash is a backslash", async () => {
      const { read } = await partsOf([...text("t", "a \\u0042AD sign"), finish]);
      expect(read).toContain("a \\u0042AD sign");
    });

    test("the structured output's own text is judged, and gone where it is stopped", async () => {
      const { guard } = scriptedGuard();
      const answering = (structuredOutputText: string) => {
        const result = {
          content: [{ type: "text", text: "A draft." }],
          finishReason: finish,
          usage,
          warnings: [],
        };
        const mock = new Mock({ doGenerate: async () => ({ ...result, structuredOutputText }) as never });
        return wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard) });
      };
      const call = { prompt, responseFormat: { type: "json" as const } };
      const stopped = await answering(hidden).doGenerate(call);
      expect(stopped.finishReason.unified).toBe("content-filter");
      expect(stopped).not.toHaveProperty("structuredOutputText");
      expect(stopped.content).toEqual([{ type: "text", text: "A draft." }]);
      expect(await answering('{"a": "fine"}').doGenerate(call)).toMatchObject({
        content: [{ type: "text", text: "A draft." }],
        structuredOutputText: '{"a": "fine"}',
      });
    });
  });
});
