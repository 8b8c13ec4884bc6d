import { once } from "node:events";
import { Agent, createServer, request } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { GuardProxy, type LogEntry, type ProxyOptions } from "../../../src/gateway/proxy.js";
import { type Listening, listen } from "../../../src/gateway/server.js";
import { scriptedGuard } from "../../gate/scripted.js";
import { scriptedUpstream } from "../upstream.js";

const CHAT = "/v1/chat/completions";
const BODY = JSON.stringify({ model: "m", messages: [{ role: "user", content: "Hi" }] });
const ANSWER = {
  choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: "Fine." } }],
};

let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
const servers: Listening[] = [];
const log: LogEntry[] = [];
let port: number;

beforeAll(async () => {
  upstream = await scriptedUpstream();
  upstream.json(ANSWER);
  port = await start();
});
afterAll(async () => {
  for (const server of servers) await server.close(0);
  await upstream.close();
});
beforeEach(() => {
  upstream.asked.length = 0;
  log.length = 0;
});

async function start(options: Partial<ProxyOptions> = {}): Promise<number> {
  const proxy = new GuardProxy(scriptedGuard().guard, {
    upstream: upstream.url,
    log: (entry) => log.push(entry),
    ...options,
  });
  const server = await listen(proxy, 0, "127.0.0.1");
  servers.push(server);
  return Number(new URL(server.url).port);
}

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

function ask(
  method: string,
  path: string,
  headers: Record<string, string>,
  body = "",
  at = port,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: "127.0.0.1", port: at, method, path, headers }, (response) => {
      let text = "";
      response.on("data", (data) => {
        text += data;
      });
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }),
      );
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}
const post = (headers: Record<string, string>, at = port) =>
  ask("POST", CHAT, { "content-type": "application/json", ...headers }, BODY, at);
const code = ({ body }: Answer) => JSON.parse(body).error.code;

describe("Host", () => {
  test.each(["localhost", "localhost:1", "127.0.0.1", "127.8.9.10:80", "[::1]:8787", "LOCALHOST"])(
    "%s is this machine",
    async (host) => {
      expect((await post({ host })).status).toBe(200);
    },
  );

  test.each([
    "evil.example",
    "evil.example:8787",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "0.0.0.0",
    "192.168.0.1",
  ])("%s is refused on every path, before anybody is asked", async (host) => {
    for (const path of ["/healthz", "/livez", "/metrics", "/v1/models"]) {
      expect(code(await ask("GET", path, { host }))).toBe("host_refused");
    }
    const answer = await post({ host });
    expect(answer.status).toBe(403);
    expect(code(answer)).toBe("host_refused");
    expect(upstream.asked).toHaveLength(0);
    expect(log.at(-1)).toMatchObject({ end: "refused", status: 403, error: { code: "host_refused" } });
    expect(JSON.stringify(log)).not.toContain(host.split(":")[0]);
  });

  test("the target's own counts as well", async () => {
    expect(code(await ask("GET", "http://evil.example/v1/models", { host: "localhost" }))).toBe(
      "host_refused",
    );
  });

  test("names that are allowed, or all", async () => {
    const named = await start({ allowHosts: ["guard.example"] });
    expect((await post({ host: "guard.example:1234" }, named)).status).toBe(200);
    expect((await post({ host: "localhost" }, named)).status).toBe(200);
    expect((await post({ host: "evil.example" }, named)).status).toBe(403);
    expect((await post({ host: "evil.example" }, await start({ allowHosts: ["*"] }))).status).toBe(200);
  });
});

describe("Origin", () => {
  test.each(["https://evil.example", "null", "http://localhost.evil.example", "file://", "app://localhost"])(
    "%s is refused, its preflight too",
    async (origin) => {
      expect(code(await post({ origin }))).toBe("origin_refused");
      const preflight = await ask("OPTIONS", CHAT, { origin, "access-control-request-method": "POST" });
      expect(preflight.status).toBe(403);
      expect(preflight.headers["access-control-allow-origin"]).toBeUndefined();
      expect(upstream.asked).toHaveLength(0);
    },
  );

  test("a page on this machine may ask, and read the answer", async () => {
    const origin = "http://localhost:5173";
    const headers = {
      "access-control-request-method": "POST",
      "access-control-request-headers": "content-type, x-stainless-os",
    };
    const preflight = await ask("OPTIONS", CHAT, { origin, ...headers });
    expect(preflight).toMatchObject({
      status: 204,
      headers: {
        "access-control-allow-origin": origin,
        "access-control-allow-headers": "content-type,x-stainless-os",
      },
    });
    expect((await post({ origin })).headers).toMatchObject({
      "access-control-allow-origin": origin,
      vary: "Origin",
    });
    // Also why it failed.
    expect((await ask("POST", CHAT, { origin }, "{}")).headers["access-control-allow-origin"]).toBe(origin);
    expect(upstream.asked[0].headers.origin).toBeUndefined();
  });

  test("origins that are allowed", async () => {
    const named = await start({ allowOrigins: ["https://app.example"] });
    expect(
      (await post({ origin: "https://app.example" }, named)).headers["access-control-allow-origin"],
    ).toBe("https://app.example");
    expect((await post({ origin: "https://app.example.evil" }, named)).status).toBe(403);
  });
});

test("what the server says to browsers, and cookies either way, stay where they are", async () => {
  upstream.answerWith(() => ({
    type: "application/json",
    headers: {
      "set-cookie": "a=b",
      "access-control-allow-origin": "*",
      connection: "keep-alive, x-once",
      "x-once": "1",
    },
    script: [JSON.stringify(ANSWER)],
  }));
  const sent = {
    cookie: "s=1",
    referer: "http://a",
    connection: "close, x-mine",
    "x-mine": "1",
    "x-http-method-override": "PUT",
    "accept-encoding": "zstd",
  };
  upstream.asked.length = 0;
  for (const answer of [await post(sent), await ask("GET", "/v1/models", sent)]) {
    expect(answer.status).toBe(200);
    for (const name of ["set-cookie", "access-control-allow-origin", "x-once"])
      expect(answer.headers[name]).toBeUndefined();
  }
  // Its client's word on compression is the client's own connection's: what is judged comes as it is.
  expect(upstream.asked[0].headers["accept-encoding"]).toBe("identity");
  for (const { headers } of upstream.asked) {
    for (const name of ["cookie", "referer", "x-mine", "x-http-method-override"])
      expect(headers[name]).toBeUndefined();
  }
  upstream.json(ANSWER);
});

test("a server that sends its clients elsewhere, past the guard, is not followed nor told", async () => {
  for (const status of [301, 307]) {
    upstream.answerWith(() => ({
      status,
      headers: { location: "http://127.0.0.1:1/v1/models" },
      script: [],
    }));
    const answer = await ask("GET", "/v1/models", {});
    expect(answer).toMatchObject({ status: 502 });
    expect(answer.headers.location).toBeUndefined();
  }
  upstream.answerWith(() => ({ status: 304, script: [] }));
  expect((await ask("GET", "/v1/models", {})).status).toBe(304);
  upstream.json(ANSWER);
});

describe("the body of a judged request", () => {
  test.each([
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=a",
    "text/json",
    "application/jsonx",
  ])("is not %s", async (type) => {
    expect(code(await post({ "content-type": type }))).toBe("body_not_json");
    expect(upstream.asked).toHaveLength(0);
  });

  test("may say nothing of its type, which some clients of Ollama's do, where it is no web page's", async () => {
    expect((await ask("POST", CHAT, {}, BODY)).status).toBe(200);
    upstream.asked.length = 0;
    expect(code(await ask("POST", CHAT, { origin: "http://localhost:3000" }, BODY))).toBe("body_not_json");
    expect(code(await ask("POST", CHAT, { origin: "null" }, BODY))).toBe("origin_refused");
    expect(upstream.asked).toHaveLength(0);
  });

  test("is sent on as what it was read as, whatever its charset was said to be", async () => {
    expect((await post({ "content-type": "application/json; charset=utf-7" })).status).toBe(200);
    expect(upstream.asked[0].headers["content-type"]).toBe("application/json");
  });

  test("has no more values than take a moment to read", async () => {
    const values = Array(40_000).fill([]);
    for (const body of [
      { unknown: values },
      { messages: values },
      { messages: [{ role: "user", content: values }] },
    ]) {
      const answer = await ask("POST", CHAT, { "content-type": "application/json" }, JSON.stringify(body));
      expect([answer.status, code(answer)]).toEqual([400, "body_too_many_values"]);
    }
    expect(upstream.asked).toHaveLength(0);
  });

  test("is not compressed", async () => {
    expect(code(await post({ "content-encoding": "gzip" }))).toBe("encoding_unsupported");
  });

  test("is not nested without end", async () => {
    const deep = (levels: number) => `{"messages":[],"metadata":${"[".repeat(levels)}${"]".repeat(levels)}}`;
    for (const levels of [200, 200_000]) {
      const answer = await ask("POST", CHAT, { "content-type": "application/json" }, deep(levels));
      expect(answer.status).toBe(400);
      expect(code(answer)).toBe("body_too_deep");
    }
  });
});

describe("sockets", () => {
  const raw = (text: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect(port, "127.0.0.1");
      let answer = "";
      socket.on("data", (data) => {
        answer += data;
      });
      socket.on("close", () => resolve(answer));
      socket.end(text);
    });

  test.each([
    "http://a@127.0.0.1/v1/chat/completions",
    "http://a:b@localhost/v1/models",
    "ftp://127.0.0.1/v1/models",
    "foo:bar",
    "@127.0.0.1",
  ])("the target %s is a 400", async (target) => {
    const answer = await raw(`GET ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1.1 400 /);
  });

  test.each<[string, string, Record<string, string>, number]>([
    ["that is too large", CHAT, { "content-type": "application/json" }, 413],
    ["that is no JSON", CHAT, { "content-type": "text/plain" }, 415],
    ["for a path that is refused", "/v1/rerank", { "content-type": "application/json" }, 404],
  ])(
    "a body %s is answered, and so is what comes after it on its connection",
    async (_, path, headers, status) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      const own = status === 413 ? port : await start({ maxBody: 2 ** 22 });
      const send = (body: string, type: Record<string, string>, to: string) =>
        new Promise<number | undefined>((resolve, reject) => {
          const options = { agent, host: "127.0.0.1", port: own, method: "POST", path: to, headers: type };
          const outgoing = request(options, (response) => {
            response.resume().on("end", () => resolve(response.statusCode));
          });
          outgoing.on("error", reject);
          // In two pieces, so that the answer could come before the second.
          outgoing.write(body.slice(0, body.length / 2));
          setImmediate(() => outgoing.end(body.slice(body.length / 2)));
        });
      for (let i = 0; i < 3; i++) {
        expect(await send("x".repeat(2 ** 21), headers, path)).toBe(status);
        // Where the rest of the first is still unread, its connection is closed after half a second.
        await new Promise((resolve) => setTimeout(resolve, 400));
        expect(await send(BODY, { "content-type": "application/json" }, CHAT)).toBe(200);
      }
      agent.destroy();
    },
  );

  test("a request that was begun before it drains is answered; once it ends, none is", async () => {
    const proxy = new GuardProxy(scriptedGuard().guard, { upstream: upstream.url });
    const server = await listen(proxy, 0, "127.0.0.1");
    const clients = [1, 2].map(() => connect(Number(new URL(server.url).port), "127.0.0.1"));
    await Promise.all(clients.map((client) => once(client, "connect")));
    for (const client of clients) client.write(`POST ${CHAT} HTTP/1.1\r\n`);
    // Once one is answered the others before it have been taken too.
    await ask("GET", "/healthz", { connection: "close" }, "", Number(new URL(server.url).port));
    const closed = server.close(60_000);
    const says = (client: Socket) => {
      const head = "Host: localhost\r\nContent-Type: application/json\r\n";
      client.write(`${head}Content-Length: ${BODY.length}\r\n\r\n${BODY}`);
      return text(client);
    };
    expect(await says(clients[0])).toMatch(/^HTTP\/1\.1 200 [\s\S]*Fine\./);
    proxy.abort();
    expect(await says(clients[1])).toMatch(/^HTTP\/1\.1 503 [\s\S]*shutting_down/);
    await closed;
  });

  test("an API that refuses an upload before all of it is there is heard, however long that takes", async () => {
    const told = JSON.stringify({ error: { message: "That is too much." } });
    const api = createServer((_, response) => response.writeHead(413, { connection: "close" }).end(told));
    await once(api.listen(0, "127.0.0.1"), "listening");
    const upstream = `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
    const client = connect(await start({ upstream, otherPaths: "pass" }), "127.0.0.1");
    client.write(
      "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf",
    );
    await expect.poll(() => log).toHaveLength(1);
    // Node cancels the body of a fetched response that nobody holds any more.
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    for (let i = 0; i < 20; i++) {
      collect();
      await new Promise((resolve) => setImmediate(resolve));
    }
    client.write(" more");
    expect(await text(client)).toMatch(/^HTTP\/1\.1 413 [\s\S]*That is too much\./);
    api.close();
  });

  test("a client that writes more than anybody drops has its answer, and may write on until it is closed", async () => {
    const tooLarge = () => new Response("no", { status: 413, headers: { connection: "close" } });
    const server = await listen({ fetch: tooLarge, drain() {}, abort() {} }, 0, "127.0.0.1");
    servers.push(server);
    const options = { port: Number(new URL(server.url).port), host: "127.0.0.1", allowHalfOpen: true };
    const client = connect(options);
    const errors: Error[] = [];
    client.on("error", (error) => errors.push(error));
    client.write(`POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${2 ** 30}\r\n\r\n`);
    const mebibyte = Buffer.alloc(2 ** 20);
    const send = () => new Promise<void>((resolve) => client.write(mebibyte, () => resolve()));
    let answer = "";
    client.on("data", (bytes) => {
      answer += bytes;
    });
    const ended = once(client, "end");
    for (let i = 0; i < 66; i++) await send();
    await ended;
    expect(answer).toMatch(/^HTTP\/1\.1 413 [\s\S]*connection: close/i);
    // What the answer's end does to it takes a moment.
    for (let i = 0; i < 8; i++) await new Promise((resolve) => setTimeout(resolve, 10)).then(send);
    expect(errors).toEqual([]);
    client.destroy();
  });

  test("clients that say nothing, or do not come to an end, are not waited for without end", async () => {
    const service = { fetch: async (r: Request) => new Response(await r.text()), drain() {}, abort() {} };
    const timeouts = { headersTimeout: 50, requestTimeout: 100, connectionsCheckingInterval: 20 };
    const server = await listen(service, 0, "127.0.0.1", timeouts);
    servers.push(server);
    const head = "POST / HTTP/1.1\r\nHost: localhost\r\n";
    const closed = ["", head, `${head}Content-Length: 9\r\n\r\nhalf`].map((said) => {
      const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
      socket.write(said);
      socket.resume();
      return new Promise((resolve) => socket.on("close", resolve));
    });
    await Promise.all(closed);
  });

  test("once the server closes, a connection ends with the answer under way, however long it would be kept", async () => {
    const answers: ((answer: Response) => void)[] = [];
    const service = { fetch: () => new Promise<Response>((r) => answers.push(r)), drain() {}, abort() {} };
    const [headersTimeout, requestTimeout, connectionsCheckingInterval] = [0, 0, 5000];
    const timeouts = {
      headersTimeout,
      requestTimeout,
      connectionsCheckingInterval,
      keepAliveTimeout: 600_000,
    };
    const server = await listen(service, 0, "127.0.0.1", timeouts);
    const agent = new Agent({ keepAlive: true });
    const answered = new Promise((resolve) => {
      request(server.url, { agent }, (response) => resolve(text(response))).end();
    });
    await expect.poll(() => answers.length).toBe(1);
    const closed = server.close(600_000);
    answers[0](new Response("whole"));
    expect(await answered).toBe("whole");
    await closed;
    agent.destroy();
  });
});
