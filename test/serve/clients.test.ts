import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Listening, listen } from "../../src/gateway/server.js";
import { type GenGuard, loadGenGuard } from "../../src/gen-guard.js";
import { GuardService } from "../../src/serve/service.js";
import { randomGen } from "../support/gen.js";

/** What products send to a server of their own, recorded or read off their code; and how they read its answers. */
let guard: GenGuard;
let server: Listening;
beforeAll(async () => {
  guard = await loadGenGuard((await randomGen()).modelDir, { maxStreams: 2 });
  server = await listen(new GuardService(guard, { name: "guard", apiKeys: ["key"] }), 0, "127.0.0.1");
});
afterAll(async () => {
  await server.close(0);
  await guard.close();
});

const base = () => `${server.url}/v1`;
const headers = { authorization: "Bearer key", "content-type": "application/json" };
const post = (path: string, body: object) =>
  fetch(`${base()}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
const messages = [{ role: "user", content: "How do I bake bread?" }];
interface Answer {
  data: { id: string }[];
  choices: { message: { content: string } }[];
  error: { code: string; message: string };
}
const read = async (response: Response) => (await response.json()) as Answer;
const VERDICT = /^Safety: (Safe|Unsafe|Controversial)\nCategories: .+$/;

describe("Open WebUI", () => {
  test("finds the model at URL + /models with its key, and is told of a wrong one", async () => {
    const found = await read(await fetch(`${base()}/models`, { headers }));
    expect(found.data.map(({ id }) => id)).toEqual(["guard"]);
    const refused = await fetch(`${base()}/models`, { headers: { authorization: "Bearer wrong" } });
    expect(refused.status).toBe(401);
    expect((await read(refused)).error.message).toContain("key");
  });

  test("reads a chat's answer line by line, and its use of tokens", async () => {
    const response = await post("/chat/completions", {
      stream: true,
      model: "guard",
      messages: [{ role: "system", content: "You are a guard." }, ...messages],
      stream_options: { include_usage: true },
      temperature: 0.8,
      max_tokens: 1000,
    });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    let content = "";
    let usage: object | undefined;
    const lines = (await response.text()).split("\n").filter((line) => line !== "");
    for (const line of lines.slice(0, -1)) {
      const data = JSON.parse(line.slice("data: ".length));
      usage = data.usage ?? usage;
      content += data.choices[0]?.delta?.content ?? "";
    }
    expect(lines.at(-1)).toBe("data: [DONE]");
    expect(content).toMatch(VERDICT);
    expect(usage).toMatchObject({ prompt_tokens: expect.any(Number) });
  });
});

describe("Dify", () => {
  test("takes the model: a ping of five tokens gets a chat completion", async () => {
    const response = await post("/chat/completions", {
      model: "guard",
      max_tokens: 5,
      messages: [{ role: "user", content: "ping" }],
    });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ object: "chat.completion" });
  });

  test("reads answers whole and in chunks apart by an empty line, thinking switched off", async () => {
    const body = {
      model: "guard",
      temperature: 0.7,
      max_tokens: 512,
      messages: [...messages, { role: "assistant", content: "Mix flour with water." }],
      user: "u",
      chat_template_kwargs: { enable_thinking: false, thinking: false },
    };
    const whole = await read(await post("/chat/completions", { ...body, stream: false }));
    const response = await post("/chat/completions", {
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    let content = "";
    let finish: string | null = null;
    for (const chunk of (await response.text()).split("\n\n").filter((part) => part !== "")) {
      const data = chunk.trim().replace(/^data:\s*/, "");
      if (data === "[DONE]") continue;
      const [choice] = JSON.parse(data).choices;
      content += choice?.delta.content ?? "";
      finish = choice?.finish_reason ?? finish;
    }
    expect(content).toBe(whole.choices[0].message.content);
    expect(content).toMatch(/^Safety: .+\nCategories: .+\nRefusal: (Yes|No)$/);
    expect(finish).toBe("stop");
  });

  test("what else would go into the template is refused still", async () => {
    const response = await post("/chat/completions", {
      model: "guard",
      messages,
      chat_template_kwargs: { enable_thinking: false, policy: "none" },
    });
    expect(response.status).toBe(400);
    expect((await read(response)).error.code).toBe("field_refused");
  });
});
