import { afterEach, describe, expect, test } from "vitest";
import { ScriptedStream } from "../../gate/scripted.js";
import { finish, MAJORS, models, text } from "./majors.js";

afterEach(async () => {
  await expect.poll(() => ScriptedStream.open).toBe(0);
});

describe.each(MAJORS)("ai $major", ({ major, Mock, sdk }) => {
  const { jsonSchema, Output, streamText, tool } = sdk;
  const { streaming } = models({ Mock, sdk });

  /** What the guard is given of a call, or the code of the error that refuses it. */
  async function read(call: object, options: Parameters<typeof streaming>[1] = {}): Promise<unknown> {
    const { model, inputs } = streaming([...text("t", "fine"), finish], options);
    let failure: unknown;
    const result = streamText({
      ...(call as { prompt: string }),
      model,
      onError({ error }) {
        failure = error;
      },
    });
    await result.consumeStream();
    return failure ? (failure as { code?: string }).code : inputs[0].messages;
  }

  /** The same past the SDK, which knows no such part. */
  async function readParts(content: object[], role = "user", options: Parameters<typeof streaming>[1] = {}) {
    const { model, inputs } = streaming([...text("t", "fine"), finish], options);
    const prompt = [
      { role, content },
      { role: "user", content: [{ type: "text", text: "Go on." }] },
    ];
    try {
      const { stream } = await model.doStream({ prompt: prompt as never });
      for await (const part of stream) if (part.type === "error") throw part.error;
      return inputs[0].messages;
    } catch (error) {
      return (error as { code?: string }).code;
    }
  }

  test("results of a provider's own tools are turns of their own", async () => {
    const messages = [
      { role: "user", content: "Search it." },
      {
        role: "assistant",
        content: [
          { type: "tool-call", toolCallId: "1", toolName: "s", input: {}, providerExecuted: true },
          { type: "tool-result", toolCallId: "1", toolName: "s", output: { type: "text", value: "found" } },
          { type: "text", text: "There." },
        ],
      },
      { role: "user", content: "Do what it says." },
    ];
    expect(await read({ messages })).toEqual([
      { role: "user", content: "Search it." },
      {
        role: "assistant",
        content: "",
        tool_calls: [{ type: "function", function: { name: "s", arguments: {} } }],
      },
      { role: "tool", content: "found" },
      { role: "assistant", content: "There." },
      { role: "user", content: "Do what it says." },
    ]);
  });

  test("descriptions of tools and of their parameters are a turn ahead of the user's", async () => {
    const inputSchema = jsonSchema({
      type: "object",
      properties: { city: { type: "string", description: "Where" } },
    });
    const weather = tool({ description: "Tells the weather.", inputSchema });
    const beside = "weather\nTells the weather.\ncity\nWhere";
    expect(await read({ prompt: "Hi", tools: { weather } })).toEqual([
      { role: "user", content: beside, standing: true },
      { role: "user", content: "Hi" },
    ]);
  });

  test("so is a text in the place of the tool that is to be called", async () => {
    const hi = { role: "user", content: [{ type: "text", text: "Hi" }] };
    const shown = async (toolName: string) => {
      const { model, inputs } = streaming([...text("t", "fine"), finish]);
      const { stream } = await model.doStream({
        prompt: [hi],
        toolChoice: { type: "tool", toolName },
      } as never);
      for await (const _ of stream);
      return inputs[0].messages;
    };
    expect(await shown("weather")).toEqual([{ role: "user", content: "Hi" }]);
    expect(await shown("Be a pirate.")).toEqual([
      { role: "user", content: "Be a pirate.", standing: true },
      { role: "user", content: "Hi" },
    ]);
  });

  test("so are those of the answer's schema", async () => {
    const schema = jsonSchema({
      type: "object",
      properties: { a: { type: "string", description: "What to say" } },
    });
    expect(await read({ prompt: "Hi", output: Output.object({ schema }) })).toEqual([
      { role: "user", content: "a\nWhat to say", standing: true },
      { role: "user", content: "Hi" },
    ]);
  });

  test("of provider options texts are shown, names and settings are not, nor what is sealed", async () => {
    const call = {
      providerOptions: { openai: { instructions: "Be a pirate.", user: "user-1", store: false } },
      messages: [
        {
          role: "user",
          content: "Hi",
          providerOptions: { x: { note: "one more text", cacheControl: { type: "ephemeral" } } },
        },
        {
          role: "assistant",
          content: [
            {
              type: "reasoning",
              text: "hm",
              providerOptions: { anthropic: { signature: "c2Vh".repeat(40) } },
            },
            // No seal looks like it.
            { type: "reasoning", text: "", providerOptions: { anthropic: { signature: "a text" } } },
          ],
        },
        { role: "user", content: "Go on." },
      ],
    };
    expect(await read(call)).toEqual([
      { role: "user", content: "Hi" },
      { role: "assistant", content: "", reasoning_content: "hm" },
      { role: "user", content: "one more text\na text\nBe a pirate." },
      { role: "user", content: "Go on." },
    ]);
  });

  test.each(["previousResponseId", "conversation", "previousInteractionId", "cachedContent"])(
    "turns stored with the provider are refused, unless the policy lets them pass: %s",
    async (name) => {
      const call = { prompt: "Hi", providerOptions: { some: { [name]: "id_1" } } };
      expect(await read(call)).toBe("REQUEST_UNJUDGED");
      expect(await read(call, { policy: { unjudged: "pass" } })).toEqual([{ role: "user", content: "Hi" }]);
    },
  );

  test("what makes its own JSON is read as the provider is sent it, wherever that stands", async () => {
    const own = (told: unknown) => Object.assign(() => {}, { toJSON: () => told });
    class Row {
      readonly #told: unknown;
      constructor(told: unknown) {
        this.#told = told;
      }
      toJSON() {
        return this.#told;
      }
    }
    const row = (told: string) => new Row({ note: told, toJSON: "a field of that name" });
    const { model, inputs } = streaming([...text("t", "fine"), finish]);
    const call = {
      prompt: [
        { role: "user", content: [{ type: "text", text: own("text one") }] },
        {
          role: "assistant",
          content: [{ type: "tool-call", toolCallId: "1", toolName: "s", input: row("input two") }],
        },
        {
          role: "tool",
          content: [
            {
              ...{ type: "tool-result", toolCallId: "1", toolName: "s" },
              output: { type: "json", value: row("result three") },
              providerOptions: { x: row("option four") },
            },
          ],
        },
        { role: "user", content: [{ type: "text", text: new String("text five") }] },
      ],
      tools: [{ type: "function", name: "s", description: "six", inputSchema: row("schema seven") }],
      providerOptions: own({ x: { prompt: [row("option eight")] } }),
      responseFormat: { type: "json", schema: own({ description: "schema nine" }) },
    };
    const { stream } = await model.doStream(call as never);
    for await (const _ of stream);
    const read = JSON.stringify(inputs[0].messages);
    for (const number of ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]) {
      expect(read).toContain(number);
    }
  });

  test("what holds itself, and so is no JSON, is refused", async () => {
    const loop: Record<string, unknown> = {};
    loop.loop = loop;
    const result = { type: "tool-result", toolCallId: "1", toolName: "s" };
    expect(await readParts([{ type: "text", text: "Hi", providerOptions: { x: loop } }])).toBe(
      "MESSAGES_INVALID",
    );
    expect(await readParts([{ ...result, output: { type: "json", value: loop } }], "tool")).toBe(
      "MESSAGES_INVALID",
    );
  });

  test("a part of a type that nobody knows is refused, unless the policy lets it pass", async () => {
    const parts = [
      { type: "text", text: "Hi" },
      { type: "subtitle", text: "BAD" },
    ];
    const result = {
      type: "tool-result",
      toolCallId: "1",
      toolName: "s",
      output: { type: "sound", value: "BAD" },
    };
    const output = { type: "content", value: [{ type: "smell", text: "BAD" }] };
    expect(await readParts(parts)).toBe("REQUEST_UNJUDGED");
    expect(await readParts([result], "tool")).toBe("REQUEST_UNJUDGED");
    expect(await readParts([{ ...result, output }], "tool")).toBe("REQUEST_UNJUDGED");
    expect(await readParts(parts, "user", { policy: { unjudged: "pass" } })).toEqual([
      { role: "user", content: "Hi" },
      { role: "user", content: "Go on." },
    ]);
  });

  test("a file that comes as text is read, others are refused", async () => {
    const file = { type: "file", filename: "a.txt", mediaType: "text/plain" };
    const told = { ...file, data: { type: "text", text: "in the file" } };
    expect(await readParts([told])).toEqual([
      { role: "user", content: "a.txt\nin the file" },
      { role: "user", content: "Go on." },
    ]);
    const output = { type: "content", value: [told] };
    expect(
      await readParts([{ type: "tool-result", toolCallId: "1", toolName: "s", output }], "tool"),
    ).toEqual([
      { role: "tool", content: "a.txt\nin the file" },
      { role: "user", content: "Go on." },
    ]);
    for (const part of [
      { ...file, data: "aGk=" },
      { type: "reasoning-file", mediaType: "image/png", data: "aGk=" },
    ]) {
      expect(await readParts([part], "assistant")).toBe("ATTACHMENT_UNREADABLE");
    }
  });

  test("why a call was denied or approved is read", async () => {
    const denied = { type: "execution-denied", reason: "not today" };
    expect(
      await readParts(
        [
          { type: "tool-result", toolCallId: "1", toolName: "s", output: denied },
          { type: "tool-approval-response", approvalId: "2", approved: true, reason: "go ahead" },
          { type: "tool-approval-response", approvalId: "3", approved: true },
        ],
        "tool",
      ),
    ).toEqual([
      { role: "tool", content: "not today" },
      { role: "tool", content: "go ahead" },
      { role: "user", content: "Go on." },
    ]);
  });

  if (major === 7) {
    test("what is a provider's own and has no text of its own is refused", async () => {
      expect(await readParts([{ type: "custom", kind: "some.thing" }], "assistant")).toBe("REQUEST_UNJUDGED");
    });
  }
});
