import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";
import { afterEach, describe, expect, test } from "vitest";
import type { Chunk } from "../../src/gate/chunks.js";
import { ModeratedStream, type ModerationOptions } from "../../src/gate/moderate.js";
import type { Source } from "../../src/gate/source.js";
import { policyOf, ScriptedStream } from "./scripted.js";

afterEach(() => {
  expect(ScriptedStream.open).toBe(0);
});

function moderate<C extends Chunk>(
  source: Source<C>,
  options: Partial<ModerationOptions> = {},
  script: ConstructorParameters<typeof ScriptedStream>[0] = {},
) {
  return new ModeratedStream(source, () => new ScriptedStream(script), { policy: policyOf(), ...options });
}

const eventsOf = (text: string) =>
  text
    .split("\n\n")
    .filter(Boolean)
    .map((event) => JSON.parse(event.replace(/^data: /, "")));

/** Says a word, and then nothing until it is told to stop. */
function silent() {
  let stopped!: () => void;
  const over = new Promise<void>((resolve) => {
    stopped = resolve;
  });
  async function* source(signal: AbortSignal) {
    signal.addEventListener("abort", stopped);
    yield "some text ";
    await new Promise(() => {});
  }
  return { source, over };
}

describe("as a response of the Web's", () => {
  test("text is UTF-8, whatever its chunks cut", async () => {
    const response = moderate(["Caf", "\u00e9 \ud83c", "\udf5e 日", "本"]).toResponse({ status: 201 });
    expect(response.status).toBe(201);
    expect(response.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(await response.text()).toBe("Caf\u00e9 🍞 日本");
  });

  test("headers of one's own go before", async () => {
    const headers = { "Content-Type": "text/markdown", "X-Mine": "1" };
    const response = moderate(["a"]).toResponse({ headers });
    expect(response.headers.get("content-type")).toBe("text/markdown");
    expect(response.headers.get("x-mine")).toBe("1");
    await response.text();
  });

  test("a violation breaks it off, or ends it with the replacement", async () => {
    const broken = moderate(["all is well BAD BAD on"]).toResponse();
    await expect(broken.text()).rejects.toMatchObject({ code: "MODERATION_VIOLATION" });
    const ended = moderate(["all is well BAD BAD on"], { replacement: " [stopped]" }).toResponse();
    expect(await ended.text()).toBe("all is well [stopped]");
  });

  test("a reader who leaves stops the model, also while it says nothing", async () => {
    const { source, over } = silent();
    const body = moderate(source).toResponse().body as ReadableStream<Uint8Array>;
    const reader = body.getReader();
    await reader.read();
    const waiting = reader.read();
    await reader.cancel();
    await over;
    await waiting;
  });

  test("a body that nobody reads and that is left holds nothing", async () => {
    const stream = moderate(silent().source);
    await stream.toResponse().body?.cancel();
    expect((await stream.done).end).toBe("cancelled");
  });

  test("ids are no text", async () => {
    await expect(moderate([1, 2]).toResponse().text()).rejects.toMatchObject({ code: "OPTION_INVALID" });
  });

  test("another form than there is is refused at once", async () => {
    const stream = moderate(["a"]);
    expect(() => stream.toResponse({ as: "json" as "text" })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID" }),
    );
  });
});

describe("as events", () => {
  const read = async (stream: ModeratedStream<Chunk>) =>
    eventsOf(await stream.toResponse({ as: "events" }).text());

  test("texts, and at the end that all have passed", async () => {
    const response = moderate(["some\n\ntext ", "more"]).toResponse({ as: "events" });
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    const events = eventsOf(await response.text());
    expect(events.at(-1)).toEqual({ end: "complete" });
    const texts = events.slice(0, -1).map(({ text }) => text);
    expect(texts.join("")).toBe("some\n\ntext more");
  });

  test("a flag is told at the end, without its text", async () => {
    for (const replacement of [undefined, "[stopped]"]) {
      const events = await read(moderate(["all is well BADx BADy on"], { replacement }));
      expect(events.at(-1)).toMatchObject({
        end: "flagged",
        violation: { part: "response", risk: "Unsafe", category: "Violent", index: 4 },
      });
      expect(JSON.stringify(events)).not.toContain("BAD");
      expect(events.some(({ text }) => text === "[stopped]")).toBe(replacement !== undefined);
    }
  });

  test("a failure is told by its code, the source's own as that", async () => {
    const failed = await read(moderate(["some text, and more text"], {}, { failAt: 3 }));
    expect(failed.at(-1)).toEqual({ end: "failed", code: "LOGITS_NOT_FINITE" });
    async function* source() {
      yield "some text ";
      throw new Error("secret");
    }
    expect((await read(moderate(source))).at(-1)).toEqual({ end: "failed", code: "SOURCE_FAILED" });
  });

  test("ids go as ids", async () => {
    const events = await read(moderate([1, [2, 3]]));
    expect(events.flatMap(({ ids }) => ids ?? [])).toEqual([1, 2, 3]);
  });
});

describe("to Node's responses", () => {
  async function serve(answer: (response: ServerResponse) => Promise<void>) {
    const served: Promise<unknown>[] = [];
    const server = createServer((_, response) => {
      served.push(answer(response).catch((error) => error));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const close = async () => {
      await Promise.all(served);
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    };
    return { url, close };
  }

  test("text is UTF-8", async () => {
    const { url, close } = await serve((response) =>
      pipeline(moderate(["Caf\u00e9 \ud83c", "\udf5e 日本"]).toReadable(), response),
    );
    expect(await (await fetch(url)).text()).toBe("Caf\u00e9 🍞 日本");
    await close();
  });

  test("events end with how it ended", async () => {
    const { url, close } = await serve((response) =>
      pipeline(moderate(["all is well BAD BAD on"]).toReadable("events"), response),
    );
    expect(eventsOf(await (await fetch(url)).text()).at(-1)).toMatchObject({ end: "flagged" });
    await close();
  });

  test.each(["text", "events"] as const)(
    "a reader of %s who leaves stops a model that says nothing",
    async (as) => {
      const { source, over } = silent();
      const { url, close } = await serve((response) => pipeline(moderate(source).toReadable(as), response));
      const controller = new AbortController();
      const response = await fetch(url, { signal: controller.signal });
      await response.body?.getReader().read();
      controller.abort();
      await over;
      await close();
    },
  );
});
