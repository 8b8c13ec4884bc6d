import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scriptedUpstream, sse } from "../gateway/upstream.js";
import { MAIN } from "../support/cli.js";
import { freePort } from "../support/free-port.js";
import { MODEL_CACHE, temporaryFolder } from "../support/model.js";

const NGINX = "/usr/sbin/nginx";
const MODULE = "/usr/lib/nginx/modules/ngx_http_js_module.so";
const INSTALLED = existsSync(NGINX) && existsSync(MODULE);
const SHIPPED = fileURLToPath(new URL("../../deploy/nginx", import.meta.url));

interface Proxy {
  child: ChildProcess;
  port: number;
}

let folder: string;
let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
let nginx: ChildProcess;
let url: string;
const proxies: Proxy[] = [];

test.runIf(process.env.CI)("CI has nginx and its module for JavaScript", () => expect(INSTALLED).toBe(true));

async function startProxy(port: number): Promise<Proxy> {
  // The embedded model finds harm in recipes; here it is to watch, not to stop.
  const policy = join(folder, "policy.json");
  await writeFile(policy, JSON.stringify({ action: "observe" }));
  const served = ["--port", String(port), "--threads", "1", "--policy", policy];
  const args = [MAIN, "proxy", "--upstream", upstream.url, ...served];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, NO_COLOR: "1", QWEN3GUARD_CACHE: MODEL_CACHE },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [said] = await once(child.stdout, "data");
  return { child, port: Number(/:(\d+) guards/.exec(String(said))?.[1]) };
}

/** The shipped configuration, for ports of this test. */
async function startNginx(): Promise<void> {
  await mkdir(join(folder, "qwen3guard"));
  await mkdir(join(folder, "conf.d"));
  await copyFile(join(SHIPPED, "qwen3guard.conf"), join(folder, "conf.d/qwen3guard.conf"));
  const script = "qwen3guard/conversation.js";
  await copyFile(join(SHIPPED, script), join(folder, script));
  const servers = proxies.map(({ port }) => `server 127.0.0.1:${port} max_fails=1 fail_timeout=1s;\n`);
  await writeFile(join(folder, "qwen3guard/servers.conf"), servers.join(""));
  const port = await freePort();
  await writeFile(join(folder, "qwen3guard/listen.conf"), `listen 127.0.0.1:${port};\n`);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  await writeFile(
    join(folder, "nginx.conf"),
    `load_module ${MODULE}; daemon off; worker_processes 2; pid ${folder}/nginx.pid; error_log ${folder}/error.log;
    events {} http { access_log off; ${temporary.join(" ")} include conf.d/*.conf; }`,
  );
  nginx = spawn(NGINX, ["-p", folder, "-c", join(folder, "nginx.conf")], { stdio: "inherit" });
  url = `http://127.0.0.1:${port}`;
  await until(() =>
    fetch(`${url}/healthz`).then(
      ({ ok }) => ok,
      () => false,
    ),
  );
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await setTimeout(50);
}

interface Turn {
  role: string;
  content: string;
}

function ask(base: string, messages: Turn[], headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${base}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ model: "m", stream: true, messages }),
  });
}

const bread = (what: string): Turn[] => [
  { role: "system", content: "You are a baker who answers in few words." },
  { role: "user", content: `How do I bake bread with ${what}?` },
];
const delta = (content: string) => sse({ choices: [{ index: 0, delta: { content } }] });
const ending = [sse({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }), sse("[DONE]")];
const isWhole = (text: string) =>
  text.trimEnd().endsWith("[DONE]") && text.includes('"finish_reason":"stop"');

function answerUntilReleased(): () => void {
  let over = false;
  upstream.answerWith(() => ({
    script: (function* () {
      yield* ["Knead ", "the ", "dough, "].map(delta);
      while (!over) yield 10;
      yield* [delta("then let it rest."), ...ending];
    })(),
  }));
  return () => {
    over = true;
  };
}

async function metric({ port }: Proxy, name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const line = text.split("\n").find((line) => line.startsWith(`${name} `));
  return Number(line?.split(" ")[1] ?? 0);
}

/** Requests that a proxy has answered since it was started. */
async function answered({ port }: Proxy): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const counts = [...text.matchAll(/^qwen3guard_requests_total\{.*\} (\d+)/gm)];
  return counts.reduce((sum, [, count]) => sum + Number(count), 0);
}

async function promptTokens(): Promise<{ reused: number; prefilled: number }> {
  const sum = { reused: 0, prefilled: 0 };
  for (const proxy of proxies) {
    for (const state of ["reused", "prefilled"] as const) {
      sum[state] += await metric(proxy, `qwen3guard_prompt_tokens_total{state="${state}"}`);
    }
  }
  return sum;
}

/** Has conversations of several turns; says which share of their prompts' tokens had been read before. */
async function reuse(name: string, baseOf: (turn: number) => string): Promise<number> {
  const before = await promptTokens();
  for (let i = 0; i < 6; i++) {
    const messages = bread(`${name} and ${"flour and ".repeat(12)} ${i} seeds`);
    for (let turn = 0; turn < 4; turn++) {
      expect(await (await ask(baseOf(i + turn), messages)).text()).toSatisfy(isWhole);
      messages.push({ role: "assistant", content: "Knead the dough, then let it rest." });
      messages.push({ role: "user", content: `And after step ${turn}?` });
    }
  }
  const after = await promptTokens();
  const reused = after.reused - before.reused;
  return reused / (reused + after.prefilled - before.prefilled);
}

describe.skipIf(!INSTALLED)("three proxies behind nginx", () => {
  beforeAll(async () => {
    folder = await temporaryFolder();
    upstream = await scriptedUpstream();
    const ports = [await freePort(), await freePort(), await freePort()];
    proxies.push(...(await Promise.all(ports.map(startProxy))));
    await startNginx();
  });
  afterAll(async () => {
    nginx?.kill("SIGTERM");
    for (const { child } of proxies) child.kill("SIGKILL");
    await upstream?.close();
  });

  test("a conversation finds the proxy that has read it", async () => {
    answerUntilReleased()();
    const inTurn = await reuse("rye", (turn) => `http://127.0.0.1:${proxies[turn % 3].port}`);
    const hashed = await reuse("oats", () => url);
    if (process.env.SHOW) console.log({ inTurn, hashed });
    expect(hashed).toBeGreaterThan(0.5);
    expect(hashed).toBeGreaterThan(1.3 * inTurn);
  });

  test("a header says which conversation it is, whatever the text", async () => {
    answerUntilReleased()();
    const counts = () => Promise.all(proxies.map((proxy) => metric(proxy, "qwen3guard_tokens_total")));
    const before = await counts();
    for (let i = 0; i < 6; i++)
      await (await ask(url, bread(`${i} nuts`), { "x-conversation-id": "c" })).text();
    const after = await counts();
    expect(after.filter((count, i) => count > before[i])).toHaveLength(1);
  });

  test("an API that has too much to do is asked once, and costs no other conversation its proxy", async () => {
    const busy = JSON.stringify({ error: { message: "Too much to do.", type: "server_error" } });
    upstream.answerWith(() => ({ status: 503, type: "application/json", script: [busy] }));
    const asked = upstream.asked.length;
    const told = [];
    for (let i = 0; i < 6; i++) told.push((await ask(url, bread(`${i} dates`))).status);
    expect(told).toEqual([503, 503, 503, 503, 503, 503]);
    expect(upstream.asked.length - asked).toBe(6);
    answerUntilReleased()();
    expect(await (await ask(url, bread("dates"))).text()).toSatisfy(isWhole);
  });

  test.each([
    ["/v1/messages", { model: "m", max_tokens: 9, system: "You are a baker." }],
    ["/api/chat", { model: "m", stream: false }],
  ])("conversations of %s find their proxy too", async (path, body) => {
    answerUntilReleased()();
    const before = await Promise.all(proxies.map(answered));
    for (let turns = 0; turns < 6; turns++) {
      const messages = [{ role: "user", content: "How do I bake bread?" }];
      for (let i = 0; i < turns; i++) {
        messages.push({ role: "assistant", content: "Knead." }, { role: "user", content: "And then?" });
      }
      const headers = { "content-type": "application/json", "x-api-key": "k" };
      await (
        await fetch(url + path, { method: "POST", headers, body: JSON.stringify({ ...body, messages }) })
      ).text();
    }
    const after = await Promise.all(proxies.map(answered));
    expect(after.map((count, i) => count - before[i]).sort()).toEqual([0, 0, 6]);
  });

  test("kill -9 of one under load: its streams alone fail, and the next request finds another", async () => {
    const release = answerUntilReleased();
    const streams: { text: Promise<string> }[] = [];
    const held = () => Promise.all(proxies.map((proxy) => metric(proxy, "qwen3guard_streams")));
    for (let i = 0; (await held()).some((count) => count === 0); i++) {
      const response = await ask(url, bread(`${i} olives`));
      const text = response.text();
      text.catch(() => {});
      streams.push({ text });
    }
    const [lost] = await held();
    const { child, port } = proxies[0];
    child.kill("SIGKILL");
    await once(child, "exit");
    const others = Promise.all(Array.from({ length: 12 }, (_, i) => ask(url, bread(`${i} figs`))));
    release();
    for (const response of await others) expect(isWhole(await response.text())).toBe(true);
    const ends = await Promise.allSettled(streams.map(({ text }) => text));
    const whole = ends.filter((end) => end.status === "fulfilled" && isWhole(end.value));
    expect(whole).toHaveLength(streams.length - lost);
    proxies[0] = await startProxy(port);
  });

  test("a restart of one after the other loses no request", async () => {
    // They take their time: so each client nearly always has one under way, and there are not more of them than that takes.
    const script = [delta("Knead "), 40, delta("the dough."), 40, ...ending];
    upstream.answerWith(() => ({ script }));
    let stop = false;
    const ends: string[] = [];
    const load = Promise.all(
      [1, 2, 3].map(async (client) => {
        for (let i = 0; !stop; i++) {
          const response = await ask(url, bread(`${client} times ${i} apples`));
          const text = await response.text();
          const whole = response.status === 200 && isWhole(text);
          ends.push(whole ? "whole" : `${response.status} ${text.slice(0, 200)}`);
        }
      }),
    );
    for (const [i, { child, port }] of proxies.entries()) {
      child.kill("SIGTERM");
      await once(child, "exit");
      proxies[i] = await startProxy(port);
      // A proxy that is back counts for gone until one request that nginx tries it with is over: two of three would be.
      await until(async () => (await answered(proxies[i])) >= 2);
    }
    stop = true;
    await load;
    expect(ends.length).toBeGreaterThan(10);
    expect(ends.filter((end) => end !== "whole")).toEqual([]);
  });
});
