import { afterEach, describe, expect, test, vi } from "vitest";
import { guardMiddleware } from "../../../src/adapters/ai-sdk.js";
import { ScriptedStream, scriptedGuard } from "../../gate/scripted.js";
import { finish, MAJORS, models, reasoning, type StreamPart, text, usage } from "./majors.js";

describe.each(MAJORS)("ai $major", ({ Mock, sdk }) => {
  const { generateText, jsonSchema, streamText, tool, wrapLanguageModel } = sdk;

  const { generating, streaming } = models({ Mock, sdk });

  afterEach(async () => {
    await expect.poll(() => ScriptedStream.open).toBe(0);
  });

  describe("streams", () => {
    test("a clean one comes out whole, usage and finish reason with it", async () => {
      const { model, inputs } = streaming([
        { type: "stream-start", warnings: [] },
        ...text("1", "Hel", "lo the", "re."),
        finish,
      ]);
      const result = streamText({ model, system: "Be kind.", prompt: "Hi" });
      expect(await result.text).toBe("Hello there.");
      expect(await result.finishReason).toBe("stop");
      expect(await result.usage).toMatchObject({ inputTokens: 5, outputTokens: 7 });
      expect(inputs[0]).toMatchObject({
        messages: [
          { role: "system", content: "Be kind." },
          { role: "user", content: "Hi" },
        ],
        overflow: "slide",
      });
    });

    test.each(["hold-back", "stream-first"] as const)(
      "%s: a flagged one finishes with content-filter",
      async (mode) => {
        const onViolation = vi.fn();
        const endless = new ReadableStream<StreamPart>({
          start(controller) {
            for (const part of [...text("1", "so ", "far BAD", " BAD", " and so on").slice(0, -1)])
              controller.enqueue(part);
          },
        });
        const { guard } = scriptedGuard();
        const signals: (AbortSignal | undefined)[] = [];
        const mock = new Mock({
          doStream: async ({ abortSignal }) => {
            signals.push(abortSignal);
            return { stream: endless };
          },
        });
        const model = wrapLanguageModel({
          model: mock,
          middleware: guardMiddleware(guard, { mode, onViolation }),
        });
        const result = streamText({ model, prompt: "Hi" });
        const out = await result.text;
        if (mode === "hold-back") expect(out).toBe("so far");
        expect(await result.finishReason).toBe("content-filter");
        expect((await result.providerMetadata)?.qwen3guard).toMatchObject({
          violation: { part: "response", risk: "Unsafe", category: "Violent" },
        });
        expect(JSON.stringify(await result.providerMetadata)).not.toContain("BAD");
        expect(onViolation).toHaveBeenCalledOnce();
        expect(signals[0]?.aborted).toBe(true);
      },
    );

    test("flagged at the very end, the usage is kept", async () => {
      const { model } = streaming([...text("1", "so BAD BAD"), finish]);
      const result = streamText({ model, prompt: "Hi" });
      expect(await result.finishReason).toBe("content-filter");
      expect(await result.usage).toMatchObject({ inputTokens: 5, outputTokens: 7 });
    });

    test("reasoning is judged with the text, each in its place", async () => {
      const { model, streams } = streaming([
        ...reasoning("r", "let me", " think"),
        ...text("t", "it is", " so"),
        finish,
      ]);
      const result = streamText({ model, prompt: "Hi" });
      expect(await result.reasoningText).toBe("let me think");
      expect(await result.text).toBe("it is so");
      expect((await result.reasoning)[0].providerMetadata).toEqual({ mock: { signature: "s" } });
      expect(streams[0].pushes.join("")).toBe("<think>\nlet me think\n</think>\n\nit is so");
    });

    test("flagged reasoning is stopped", async () => {
      const { model } = streaming([...reasoning("r", "let me BAD BAD"), ...text("t", "fine"), finish]);
      const result = streamText({ model, prompt: "Hi" });
      expect(await result.finishReason).toBe("content-filter");
      expect(await result.reasoningText).toBe("let me");
      expect(await result.text).toBe("");
    });

    test("without reasoning the guard reads an empty think block, as its template has it", async () => {
      const { model, streams } = streaming([...text("t", "it is"), finish]);
      await streamText({ model, prompt: "Hi" }).text;
      expect(streams[0].pushes.join("")).toBe("<think>\n\n</think>\n\nit is");
    });

    test("tool calls pass as they are", async () => {
      const call: StreamPart[] = [
        { type: "tool-input-start", id: "c", toolName: "weather" },
        { type: "tool-input-delta", id: "c", delta: '{"city":"BAD BAD"}' },
        { type: "tool-input-end", id: "c" },
        { type: "tool-call", toolCallId: "c", toolName: "weather", input: '{"city":"BAD BAD"}' },
      ];
      const { model } = streaming([...text("1", "Let me look"), ...call, finish]);
      const result = streamText({
        model,
        prompt: "Hi",
        tools: { weather: tool({ inputSchema: jsonSchema<{ city: string }>({ type: "object" }) }) },
      });
      expect(await result.text).toBe("Let me look");
      expect(await result.toolCalls).toMatchObject([{ toolName: "weather", input: { city: "BAD BAD" } }]);
      expect(await result.finishReason).toBe("stop");
    });

    test("a block's end settles it: nothing waits for what comes after", async () => {
      const { guard } = scriptedGuard();
      const parts = text("1", "Let me look");
      const stream = new ReadableStream<StreamPart>({
        start(controller) {
          for (const part of parts) controller.enqueue(part);
        },
      });
      const mock = new Mock({ doStream: async () => ({ stream }) });
      const model = wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard) });
      const result = await model.doStream({
        prompt: [{ role: "user", content: [{ type: "text", text: "Hi" }] }],
      });
      const reader = result.stream.getReader();
      const types: string[] = [];
      while (types.at(-1) !== "text-end") types.push((await reader.read()).value?.type ?? "over");
      expect(types).toContain("text-delta");
      await reader.cancel();
    });

    test("raw chunks would tell what is held back: they stay", async () => {
      const { model } = streaming([{ type: "raw", rawValue: "secret" }, ...text("1", "fine"), finish]);
      const parts = [];
      for await (const part of streamText({ model, prompt: "Hi", includeRawChunks: true }).fullStream)
        parts.push(part);
      expect(JSON.stringify(parts)).not.toContain("secret");
    });

    test("a blocked prompt finishes without text, and with promptFirst without a call", async () => {
      for (const promptFirst of [false, true]) {
        const { model, mock } = streaming(
          [...text("1", "fine"), finish],
          { promptFirst },
          { prompt: "Unsafe" },
        );
        const result = streamText({ model, prompt: "Hi" });
        expect(await result.text).toBe("");
        expect(await result.finishReason).toBe("content-filter");
        expect(mock.doStreamCalls.length).toBe(promptFirst ? 0 : 1);
      }
    });

    test("a model that does not heed the signal is left, also where it answers after the prompt was blocked", async () => {
      const cancel = vi.fn();
      const { guard } = scriptedGuard({ prompt: "Unsafe" });
      const mock = new Mock({
        async doStream() {
          await new Promise((resolve) => setTimeout(resolve, 20));
          return { stream: new ReadableStream({ cancel }) };
        },
      });
      const model = wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard) });
      expect(await streamText({ model, prompt: "Hi" }).finishReason).toBe("content-filter");
      await expect.poll(() => cancel).toHaveBeenCalledOnce();
    });

    test("when the guard fails, so does the stream", async () => {
      const { model } = streaming([...text("1", "one two", " three four"), finish], {}, { failAt: 4 });
      const onError = vi.fn();
      const result = streamText({ model, prompt: "Hi", onError });
      expect(await result.finishReason).toBe("error");
      expect(onError.mock.calls[0][0].error).toMatchObject({ message: "scripted failure" });
    });

    test("the provider's refusal reaches the SDK", async () => {
      const { guard } = scriptedGuard();
      const mock = new Mock({ doStream: () => Promise.reject(new Error("401")) });
      const model = wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard) });
      const onError = vi.fn();
      await streamText({ model, prompt: "Hi", onError, maxRetries: 0 }).consumeStream();
      expect(onError.mock.calls[0][0].error).toEqual(new Error("401"));
    });

    test("an abort is an abort", async () => {
      const controller = new AbortController();
      const { guard } = scriptedGuard();
      const mock = new Mock({ doStream: async () => ({ stream: new ReadableStream() }) });
      const model = wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard) });
      const onAbort = vi.fn();
      const result = streamText({ model, prompt: "Hi", abortSignal: controller.signal, onAbort });
      setTimeout(() => controller.abort(), 20);
      await result.consumeStream();
      expect(onAbort).toHaveBeenCalledOnce();
    });
  });

  describe("at once", () => {
    test("clean text, reasoning and calls come out as they are", async () => {
      const { model } = generating([
        { type: "reasoning", text: "well" },
        { type: "text", text: "Hello there." },
        { type: "tool-call", toolCallId: "c", toolName: "look", input: "{}" },
      ]);
      const tools = { look: tool({ inputSchema: jsonSchema({ type: "object" }) }) };
      const result = await generateText({ model, prompt: "Hi", tools });
      expect(result.reasoningText).toBe("well");
      expect(result.text).toBe("Hello there.");
      expect(result.toolCalls).toHaveLength(1);
      expect(result.usage).toMatchObject({ inputTokens: 5, outputTokens: 7 });
    });

    test("flagged text is cut before the flag", async () => {
      const { model } = generating([{ type: "text", text: "so far BAD BAD more" }]);
      const result = await generateText({ model, prompt: "Hi" });
      expect(result.text).toBe("so far");
      expect(result.finishReason).toBe("content-filter");
      expect(result.usage).toMatchObject({ outputTokens: 7 });
      expect(result.providerMetadata?.qwen3guard).toMatchObject({ violation: { risk: "Unsafe" } });
    });

    test("what the provider tells beside the text does not say it again", async () => {
      const { guard } = scriptedGuard();
      const mock = new Mock({
        doGenerate: async () => ({
          content: [{ type: "text", text: "so far BAD BAD" }],
          finishReason: { unified: "stop", raw: "stop" },
          usage,
          warnings: [],
          response: { id: "r", body: { text: "so far BAD BAD" } },
          providerMetadata: { mock: { logprobs: [{ token: "BAD" }] } },
        }),
      });
      const model = wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard) });
      const { text, response, providerMetadata } = await generateText({ model, prompt: "Hi" });
      expect(text).toBe("so far");
      expect(response.id).toBe("r");
      expect(JSON.stringify([response, providerMetadata])).not.toContain("BAD");
    });

    test("a blocked prompt has no text", async () => {
      const { model, mock } = generating(
        [{ type: "text", text: "x" }],
        { promptFirst: true },
        { prompt: "Unsafe" },
      );
      const result = await generateText({ model, prompt: "Hi" });
      expect(result).toMatchObject({ text: "", finishReason: "content-filter" });
      expect(mock.doGenerateCalls).toHaveLength(0);
    });

    test("when the guard or the provider fails, the call does", async () => {
      const failing = generating([{ type: "text", text: "one two three" }], {}, { failAt: 2 });
      await expect(generateText({ model: failing.model, prompt: "Hi" })).rejects.toThrow("scripted failure");
      const { guard } = scriptedGuard();
      const mock = new Mock({ doGenerate: () => Promise.reject(new Error("500")) });
      const model = wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard) });
      await expect(generateText({ model, prompt: "Hi", maxRetries: 0 })).rejects.toThrow("500");
    });
  });

  describe("conversations", () => {
    test("turns, calls and results go where the template has them", async () => {
      const { model, inputs } = streaming([...text("1", "fine"), finish]);
      await streamText({
        model,
        messages: [
          {
            role: "user",
            content: [
              { type: "text", text: "a" },
              { type: "text", text: "b" },
            ],
          },
          {
            role: "assistant",
            content: [
              { type: "reasoning", text: "hm" },
              { type: "text", text: "look" },
              { type: "tool-call", toolCallId: "c", toolName: "weather", input: { city: "Rome" } },
            ],
          },
          {
            role: "tool",
            content: [
              {
                type: "tool-result",
                toolCallId: "c",
                toolName: "weather",
                output: { type: "json", value: { sun: true } },
              },
            ],
          },
        ],
      }).text;
      expect(inputs[0].messages).toEqual([
        { role: "user", content: "ab" },
        {
          role: "assistant",
          content: "look",
          reasoning_content: "hm",
          tool_calls: [{ type: "function", function: { name: "weather", arguments: { city: "Rome" } } }],
        },
        { role: "tool", content: '{"sun":true}' },
      ]);
    });

    test("an answer that the request begins is judged with it, and not said again", async () => {
      const { model, inputs, streams } = streaming([...text("1", " goes on"), finish]);
      const messages = [
        { role: "user" as const, content: "Hi" },
        { role: "assistant" as const, content: "so far BAD" },
      ];
      const result = streamText({ model, messages });
      expect(await result.text).toBe(" goes on");
      expect(inputs[0].messages).toHaveLength(1);
      expect(streams[0].pushes.join("")).toBe("<think>\n\n</think>\n\nso far BAD goes on");
      const flagged = streaming([...text("1", " BAD"), finish]);
      const stopped = streamText({ model: flagged.model, messages });
      expect(await stopped.text).toBe("");
      expect(await stopped.finishReason).toBe("content-filter");
    });

    test("an answer in steps, with tool calls between, is judged as the one text its reader sees", async () => {
      const steps = ["so far BAD", " BAD more"];
      const { guard } = scriptedGuard();
      const call = { type: "tool-call" as const, toolCallId: "c", toolName: "weather", input: "{}" };
      const mock = new Mock({
        doStream: async () => {
          const step = steps.shift();
          const parts = [...text("1", step ?? "fine"), ...(step?.startsWith("so") ? [call] : []), finish];
          return { stream: ReadableStream.from(parts) as ReadableStream<StreamPart> };
        },
      });
      const model = wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard) });
      const weather = tool({ inputSchema: jsonSchema({ type: "object" }), execute: async () => "sun" });
      const stopWhen = ({ steps }: { steps: unknown[] }) => steps.length === 3;
      const result = streamText({ model, prompt: "Hi", tools: { weather }, stopWhen });
      let seen = "";
      for await (const part of result.textStream) seen += part;
      expect(seen).toBe("so far BAD");
      expect(await result.finishReason).toBe("content-filter");
    });

    test("tenants are kept apart by the middleware's cacheKey", async () => {
      const { model, inputs } = streaming([...text("1", "fine"), finish], { cacheKey: "tom's" });
      await streamText({ model, prompt: "Hi" }).text;
      expect(inputs[0].cacheKey).toBe("tom's");
      expect(() => guardMiddleware(scriptedGuard().guard, { cacheKey: 1 as never })).toThrow(
        expect.objectContaining({ code: "OPTION_INVALID" }),
      );
    });

    test("what the guard cannot read is refused, unless the policy lets it pass", async () => {
      const messages = [
        {
          role: "user" as const,
          content: [
            { type: "image" as const, image: new Uint8Array([137, 80, 78, 71]), mediaType: "image/png" },
          ],
        },
      ];
      const onError = vi.fn();
      const { model } = streaming([...text("1", "fine"), finish]);
      await streamText({ model, messages, onError }).consumeStream();
      expect(onError.mock.calls[0][0].error).toMatchObject({ code: "ATTACHMENT_UNREADABLE" });
      const lenient = streaming([...text("1", "fine"), finish], { policy: { attachments: "ignore" } });
      expect(await streamText({ model: lenient.model, messages }).text).toBe("fine");
    });
  });
});
