import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { type Listening, listen } from "../../src/gateway/server.js";
import { type Guard, loadGuard } from "../../src/index.js";
import { GuardService, type ServiceOptions } from "../../src/serve/service.js";

const QUESTION = [{ role: "user", content: "Write a card." }];
const INSULT =
  "You are a stupid, ugly loser, everybody here hates you, and I will come to your house and hurt you.";

let guard: Guard;
const servers: Listening[] = [];

async function serve(options: ServiceOptions = {}): Promise<string> {
  const server = await listen(new GuardService(guard, options), 0, "127.0.0.1");
  servers.push(server);
  return server.url;
}

beforeAll(async () => {
  guard = await loadGuard({ maxStreams: 4 });
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close(0)));
});
afterAll(() => guard.close());

type Told = Record<string, unknown> & { type: string; from: number; text: string[]; risk_level: string[] };

/** A client's socket, and everything that it is told. */
class Client {
  readonly told: Told[] = [];
  readonly socket: WebSocket;
  readonly closed: Promise<number>;
  constructor(url: string, headers: Record<string, string> = {}) {
    this.socket = new WebSocket(`${url.replace("http", "ws")}/v1/streams`, { headers });
    this.socket.on("message", (data) => this.told.push(JSON.parse(String(data))));
    this.closed = new Promise((resolve) => {
      this.socket.on("close", (code) => resolve(code));
      this.socket.on("error", () => resolve(0));
    });
  }
  async say(...messages: object[]): Promise<void> {
    if (this.socket.readyState === WebSocket.CONNECTING) await once(this.socket, "open");
    for (const message of messages) this.socket.send(JSON.stringify(message));
  }
}

/** What verdicts come to, those that were revised left out. */
function standing(told: Told[]): { text: string; risks: string[] } {
  const texts: string[] = [];
  const risks: string[] = [];
  for (const { from, text, risk_level: levels } of told.filter(({ type }) => type === "verdicts")) {
    if (text.length === 0) continue;
    texts.length = risks.length = from;
    texts.push(...text);
    risks.push(...levels);
  }
  return { text: texts.join(""), risks };
}

/** Whether docs/token-streams.schema.json describes a message. */
const isDescribed = new Ajv2020({ allowUnionTypes: true }).compile(
  JSON.parse(readFileSync(new URL("../../docs/token-streams.schema.json", import.meta.url), "utf8")),
);

test("the schema takes what a client may say, and nothing else", () => {
  const open = { type: "open", messages: QUESTION };
  for (const message of [
    open,
    { ...open, tools: [{}], model: "any" },
    { type: "push", ids: [1] },
    { type: "end" },
  ])
    expect(isDescribed(message)).toBe(true);
  const unknown = { ...open, response: "Hi" };
  for (const message of [
    { type: "open" },
    { ...open, ids: [1] },
    unknown,
    { type: "push" },
    { type: "dance" },
  ]) {
    expect(isDescribed(message)).toBe(false);
  }
});

async function free(): Promise<void> {
  while (guard.load.active + guard.load.waiting > 0) await new Promise(setImmediate);
}

describe("a token stream over a WebSocket", () => {
  test("tells what the guard itself says of the same text", async () => {
    const client = new Client(await serve());
    const chunks = INSULT.match(/.{1,7}/g) as string[];
    await client.say({ type: "open", messages: QUESTION });
    await client.say(...chunks.map((text) => ({ type: "push", text })), { type: "end" });
    expect(await client.closed).toBe(1000);
    const stream = guard.stream({ messages: QUESTION });
    await stream.pushText(INSULT);
    const decision = await stream.end();
    expect(client.told.filter((message) => !isDescribed(message))).toEqual([]);
    expect(client.told[0].type).toBe("opened");
    expect(client.told[1]).toMatchObject({ type: "prompt", verdict: { risk_level: expect.any(String) } });
    expect(standing(client.told).text).toBe(INSULT);
    expect(client.told.at(-1)).toMatchObject({ type: "decision", ...decision });
    await free();
  });

  test("takes ids, as the official streaming API does", async () => {
    const client = new Client(await serve());
    const { ids } = guard.template.prefix(QUESTION);
    const answer = guard.tokenizer.encode(INSULT);
    await client.say({ type: "open", ids }, ...answer.map((id) => ({ type: "push", ids: [id] })), {
      type: "end",
    });
    await client.closed;
    expect(standing(client.told).risks).toHaveLength(answer.length);
    expect(standing(client.told).risks).toContain("Unsafe");
  });

  test.each<[string, object[], string]>([
    ["a push before open", [{ type: "push", text: "Hi" }], "message_invalid"],
    ["an unknown message", [{ type: "open", messages: QUESTION }, { type: "dance" }], "message_invalid"],
    ["a conversation that is none", [{ type: "open", messages: [] }], "messages_invalid"],
    ["both messages and ids", [{ type: "open", messages: QUESTION, ids: [1] }], "field_invalid"],
    [
      "an id out of range",
      [
        { type: "open", messages: QUESTION },
        { type: "push", ids: [1e9] },
      ],
      "token_invalid",
    ],
    ["neither messages nor ids", [{ type: "open" }], "field_invalid"],
    ["a field that nobody reads", [{ type: "open", messages: QUESTION, response: INSULT }], "field_unknown"],
    [
      "a push with another name for its text",
      [
        { type: "open", messages: QUESTION },
        { type: "push", text: "Hi", content: INSULT },
      ],
      "field_unknown",
    ],
    ["tools beside ids", [{ type: "open", ids: [1], tools: [{}] }], "option_invalid"],
    ["another overflow", [{ type: "open", messages: QUESTION, overflow: "drop" }], "field_invalid"],
    ...[{ text: "Hi", ids: [1] }, {}, { text: 1 }, { ids: 1 }, { ids: Array(1e5 + 1).fill(1) }].map(
      (push): [string, object[], string] => [
        `a push of ${JSON.stringify(push).slice(0, 30)}`,
        [
          { type: "open", messages: QUESTION },
          { type: "push", ...push },
        ],
        "field_invalid",
      ],
    ),
    [
      "a policy that does not fit",
      [{ type: "open", messages: QUESTION, policy: { mode: 1 } }],
      "policy_invalid",
    ],
  ])("%s ends it with a named error, and frees the slot", async (_, messages, code) => {
    const client = new Client(await serve());
    await client.say(...messages);
    expect(await client.closed).toBe(1008);
    expect(client.told.at(-1)).toMatchObject({ type: "error", error: { code } });
    await free();
  });

  test("what is no JSON, and what is larger than a message may be, ends it", async () => {
    const url = await serve({ maxBody: 1000 });
    for (const text of ["not JSON", "x".repeat(2000)]) {
      const client = new Client(url);
      await once(client.socket, "open");
      client.socket.send(text);
      expect([1008, 1009]).toContain(await client.closed);
    }
  });

  test("one that opens no stream is closed, as an idle stream is", async () => {
    const client = new Client(await serve({ idle: 1 }));
    expect(await client.closed).toBe(1008);
    expect(client.told).toMatchObject([{ type: "error", error: { code: "stream_idle" } }]);
  });

  test("none opens a stream once the service takes no more", async () => {
    const service = new GuardService(guard);
    const server = await listen(service, 0, "127.0.0.1");
    servers.push(server);
    const client = new Client(server.url);
    await once(client.socket, "open");
    service.drain();
    await client.say({ type: "open", messages: QUESTION });
    expect(await client.closed).toBe(1008);
    expect(client.told).toMatchObject([{ type: "error", error: { code: "shutting_down" } }]);
  });

  // A closed socket's client has half a minute to say so.
  test("the service's end waits for no client that is silent", { timeout: 20_000 }, async () => {
    const server = await listen(new GuardService(guard), 0, "127.0.0.1");
    const client = new Client(server.url);
    await client.say({ type: "open", messages: QUESTION });
    await once(client.socket, "message");
    client.socket.pause();
    await server.close(0);
    await free();
    client.socket.terminate();
  });

  test("keys, origins and the number of streams are as for requests", async () => {
    const url = await serve({ apiKeys: ["right"], maxStreams: 1 });
    const refused = async (headers: Record<string, string>) => {
      const socket = new WebSocket(`${url.replace("http", "ws")}/v1/streams`, { headers });
      socket.on("error", () => {});
      const [, response] = await once(socket, "unexpected-response");
      return response.statusCode;
    };
    expect(await refused({})).toBe(401);
    expect(await refused({ authorization: "Bearer right", origin: "https://evil.example" })).toBe(403);
    const first = new Client(url, { authorization: "Bearer right" });
    await first.say({ type: "open", messages: QUESTION });
    while (first.told.length < 2) await new Promise(setImmediate);
    const second = new Client(url, { authorization: "Bearer right" });
    await second.say({ type: "open", messages: QUESTION });
    await second.closed;
    expect(second.told.at(-1)).toMatchObject({ error: { code: "too_many_streams" } });
    await first.say({ type: "close" });
    expect(await first.closed).toBe(1000);
    await free();
  });

  test("hundreds of sockets that die whenever: none hears another's words, and no slot is lost", async () => {
    const url = await serve({ maxStreams: 4 });
    let finished = 0;
    const one = async (i: number): Promise<void> => {
      const client = new Client(url);
      const words = `word${i} says ${"abcdefgh"[i % 8].repeat(5)} to number ${i}`;
      await client.say({ type: "open", messages: [{ role: "user", content: `Question ${i}` }] });
      if (i % 5 === 0) return client.socket.terminate();
      for (const piece of words.match(/.{1,6}/g) as string[]) await client.say({ type: "push", text: piece });
      if (i % 5 === 1) return client.socket.terminate();
      if (i % 5 === 2) return client.socket.close();
      await client.say({ type: "end" });
      await client.closed;
      const last = client.told.at(-1);
      if (last?.type === "error")
        return expect(last).toMatchObject({ error: { code: "too_many_streams" } }) as never;
      expect(standing(client.told).text).toBe(words);
      finished++;
    };
    for (let round = 0; round < 30; round++) {
      await Promise.all(Array.from({ length: 8 }, (_, i) => one(8 * round + i)));
    }
    expect(finished).toBeGreaterThan(10);
    await free();
  });
});

describe("a token stream over plain requests", () => {
  /** What is read of answers here. */
  interface Body {
    id: string;
    verdict: object;
    verdicts: Told;
    decision: { risk: string };
    error: { code: string };
  }
  const post = async (url: string, body: object = {}, headers = {}) => {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as Body };
  };

  test("increments are joined and judged in the order they come", async () => {
    const streams = `${await serve()}/v1/streams`;
    const { body: opened } = await post(streams, { messages: QUESTION });
    expect(opened.verdict).toMatchObject({ risk_level: expect.any(String) });
    const own = `${streams}/${opened.id}`;
    const told: Told[] = [];
    for (const text of INSULT.match(/.{1,9}/g) as string[]) {
      told.push({ ...(await post(own, { text })).body, type: "verdicts" } as unknown as Told);
    }
    const { body: ended } = await post(`${own}/end`);
    told.push({ ...ended.verdicts, type: "verdicts" });
    expect(standing(told).text).toBe(INSULT);
    expect(ended.decision.risk).toBe("Unsafe");
    expect((await post(own, { text: "more" })).body.error.code).toBe("stream_unknown");
    await free();
  });

  test("a stream is its client's alone, and ends when nobody uses it", async () => {
    const streams = `${await serve({ idle: 1 })}/v1/streams`;
    const { body: opened } = await post(streams, { messages: QUESTION }, { authorization: "Bearer a" });
    const other = await post(`${streams}/${opened.id}`, { text: "Hi" }, { authorization: "Bearer b" });
    expect(other.body.error.code).toBe("stream_unknown");
    await free();
    const late = await post(`${streams}/${opened.id}`, { text: "Hi" }, { authorization: "Bearer a" });
    expect(late.status).toBe(404);
  });

  test("who leaves before a stream is open leaves no slot taken", async () => {
    const streams = `${await serve()}/v1/streams`;
    const controller = new AbortController();
    const opening = fetch(streams, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ messages: [{ role: "user", content: "Write a card. ".repeat(2000) }] }),
      signal: controller.signal,
    });
    await vi.waitUntil(() => guard.load.active > 0, { timeout: 10_000, interval: 1 });
    controller.abort();
    await expect(opening).rejects.toThrow();
    await free();
  });

  test("DELETE frees the slot", async () => {
    const streams = `${await serve()}/v1/streams`;
    const { body: opened } = await post(streams, { messages: QUESTION });
    expect((await fetch(`${streams}/${opened.id}`, { method: "DELETE" })).status).toBe(204);
    await free();
  });
});

/** A real interpreter. */
async function python(args: string[], input = ""): Promise<{ code: number; out: string; err: string }> {
  const child = spawn("python3", args);
  let [out, err] = ["", ""];
  child.stdout.on("data", (data) => {
    out += data;
  });
  child.stderr.on("data", (data) => {
    err += data;
  });
  child.stdin.end(input);
  const [code] = await once(child, "close");
  return { code, out, err };
}

test("the Python client speaks to it, with a real interpreter", async () => {
  const url = await serve();
  const examples = fileURLToPath(new URL("../../examples", import.meta.url));
  const { ids } = guard.template.prefix(QUESTION);
  const script = `
import json, sys
sys.path.insert(0, ${JSON.stringify(examples)})
from qwen3guard_client import GuardError, Qwen3Guard
guard = Qwen3Guard(${JSON.stringify(url)})
result, state = guard.stream_moderate_from_ids(${JSON.stringify(ids)}, role="user")
risks = []
for token in ${JSON.stringify(guard.tokenizer.encode(INSULT))}:
    told, state = guard.stream_moderate_from_ids(token, role="assistant", stream_state=state)
    risks += told["risk_level"]
guard.close_stream(state)
try:
    guard.moderate_text(state, "more")
except GuardError as error:
    code = error.code
text = guard.classify([{"role": "user", "content": "Hi"}])["text"]
print(json.dumps({"prompt": result["risk_level"], "risks": risks, "code": code, "text": text}))
`;
  const { code, out, err } = await python(["-c", script]);
  expect(err).toBe("");
  expect(code).toBe(0);
  const found = JSON.parse(out);
  expect(found.prompt).toHaveLength(1);
  expect(found.risks).toHaveLength(guard.tokenizer.encode(INSULT).length);
  expect(found.risks).toContain("Unsafe");
  expect(found.code).toBe("stream_unknown");
  expect(found.text).toMatch(/^Safety: /);
  await free();
});

test("the Python client connects again where the service has closed an idle connection", async () => {
  const paths: string[] = [];
  const server = createServer((request, response) => {
    paths.push(request.url as string);
    response.end('{"text": "Safety: Safe"}', () => request.socket.end());
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const script = `
import select, sys
sys.path.insert(0, ${JSON.stringify(fileURLToPath(new URL("../../examples", import.meta.url)))})
from qwen3guard_client import Qwen3Guard
guard = Qwen3Guard("http://127.0.0.1:${port}/guards/v1/")
for _ in range(3):
    print(guard.classify([])["text"])
    select.select([guard._connection.sock], [], [])
`;
  expect(await python(["-c", script])).toEqual({ code: 0, out: "Safety: Safe\n".repeat(3), err: "" });
  expect(paths).toEqual(Array(3).fill("/guards/v1/classify"));
  server.close();
});

describe("the Python client on the command line", () => {
  const client = fileURLToPath(new URL("../../examples/qwen3guard_client.py", import.meta.url));

  test("says what it does, without a service", async () => {
    const all = await python([client, "--help"]);
    expect(all).toMatchObject({ code: 0, err: "" });
    for (const command of ["classify", "stream"]) {
      expect(all.out).toContain(command);
      const one = await python([client, command, "--help"]);
      expect(one).toMatchObject({ code: 0, err: "" });
      expect(one.out).toContain("--prompt");
    }
    const nothing = await python([client]);
    expect(nothing.code).toBe(2);
    expect(nothing.err).toContain("usage:");
  });

  test("judges an answer as it arrives on standard input, and a finished one", async () => {
    const url = await serve();
    const streamed = await python([client, "--url", url, "stream", "--prompt", "Hi"], INSULT);
    expect(streamed).toMatchObject({ code: 0, err: "" });
    expect(streamed.out).toMatch(/^prompt: /);
    expect(streamed.out).toMatch(/^ +0 {2}\w+ +\d+\.\d% {2}'/m);
    expect(streamed.out).toMatch(/\ndecision: Unsafe .+, from token \d+\n$/);
    const args = ["classify", "--prompt", "Hi", "--response", INSULT];
    const finished = await python([client, "--url", url, ...args]);
    expect(finished).toMatchObject({ code: 0, err: "" });
    expect(finished.out).toMatch(/^Safety: Unsafe\nCategories: .+\n$/);
    const whole = await python([client, "--url", url, ...args, "--json"]);
    expect(`${JSON.parse(whole.out).text}\n`).toBe(finished.out);
    await free();
  });

  test.each([
    ["is not running", "http://127.0.0.1:9", "Is `qwen3guard serve` running"],
    ["is no URL", "localhost:8000", "like http://HOST:PORT"],
  ])("says in a line that a service %s", async (_, url, says) => {
    const { code, err } = await python([client, "--url", url, "classify", "--prompt", "Hi"]);
    expect(code).toBe(1);
    expect(err).toContain(says);
    expect(err).not.toContain("Traceback");
  });
});
