import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { pull } from "../../src/download/hub.js";
import { temporaryFolder } from "../support/model.js";
import { FakeHub } from "./fake-hub.js";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

let server: Server;
let endpoint: string;
let answer: Answer;
let requests: number;
const sha = "1".repeat(40);
const json = (response: ServerResponse, value: unknown) => response.end(JSON.stringify(value));
const file = (path: unknown, more: object = {}) => ({
  type: "file",
  path,
  size: 2,
  oid: "2".repeat(40),
  ...more,
});

beforeEach(async () => {
  requests = 0;
  server = createServer((request, response) => {
    requests++;
    answer(request, response);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  new FakeHub().enter(await temporaryFolder());
  vi.stubEnv("HF_ENDPOINT", endpoint);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
});

/** Answers the question for the commit, and then the list of files as told. */
function listing(list: Answer): void {
  answer = (request, response) => {
    if (request.url?.includes("/tree/")) list(request, response);
    else json(response, { _id: "1", id: FakeHub.repo, sha });
  };
}

const refusal = () => expect(pull(FakeHub.repo)).rejects;

test("redirects in a circle are named", async () => {
  answer = (request, response) => response.writeHead(302, { Location: request.url }).end();
  await refusal().toMatchObject({ code: "HUB_FAILED", message: expect.stringContaining("in a circle") });
  expect(requests).toBeLessThan(30);
});

test.each(["file:///etc/passwd", "data:application/json,{}", "ftp://hub.example.com/", "javascript:0"])(
  "a redirect to %s is named, and not followed",
  async (location) => {
    answer = (_, response) => response.writeHead(302, { Location: location }).end();
    const protocol = location.slice(0, location.indexOf(":") + 1);
    await refusal().toMatchObject({ code: "HUB_FAILED", message: expect.stringContaining(protocol) });
  },
);

test("a redirect to nowhere is named", async () => {
  answer = (_, response) => response.writeHead(302, { Location: "http://[" }).end();
  await refusal().toMatchObject({ code: "HUB_FAILED", message: expect.stringContaining("no address") });
});

test("a file's download that is redirected in a circle is not tried again", async () => {
  const names = ["config.json", "tokenizer.json", "model.safetensors"];
  listing((_, response) =>
    json(
      response,
      names.map((name) => file(name)),
    ),
  );
  const list = answer;
  answer = (request, response) => {
    if (!request.url?.includes("/resolve/")) list(request, response);
    else response.writeHead(302, { Location: request.url }).end();
  };
  await refusal().toMatchObject({ code: "HUB_FAILED", message: expect.stringContaining("in a circle") });
});

test("a list of files without end is named", async () => {
  listing((request, response) => {
    response.setHeader("Link", `<${endpoint}${request.url}>; rel="next"`);
    json(response, [file("README.md")]);
  });
  await refusal().toMatchObject({ code: "HUB_FAILED", message: expect.stringContaining("without end") });
});

test("an answer without end is not read to it", async () => {
  listing((_, response) => {
    const piece = Buffer.alloc(1 << 20, " ");
    const write = () => {
      while (!response.destroyed && response.write(piece)) {}
    };
    response.on("drain", write);
    write();
  });
  await refusal().toMatchObject({ code: "HUB_FAILED", message: expect.stringContaining("more than") });
});

test.each<[string, unknown]>([
  ["null", null],
  ["a number", 5],
  ["an object", { error: "no" }],
  ["a list of nulls", [null]],
  ["files without a name", [file(null), file({ a: 1 }), file(["config.json"])]],
  ["a hash that is a path", [file("config.json", { oid: "../../evil" })]],
  ["a size that is no number", [file("config.json", { size: "2" })]],
])("a list of files that is %s is named", async (_, list) => {
  listing((_, response) => json(response, list));
  await refusal().toMatchObject({ name: "StorageError", code: expect.stringMatching(/HUB_FAILED|REPO_NOT/) });
});

test.each<[string, Answer]>([
  ["a commit that is no hash", (_, response) => json(response, { _id: "1", id: "a", sha: { toString: 1 } })],
  ["an endless commit", (_, response) => json(response, { _id: "1", id: "a", sha: "1".repeat(1 << 20) })],
  ["JSON nested deeply", (_, response) => response.end("[".repeat(1 << 20))],
])("%s is named in few words", async (_, given) => {
  answer = given;
  const error = await pull(FakeHub.repo).catch((error) => error);
  expect(error).toMatchObject({ code: "HUB_FAILED" });
  expect(error.message.length).toBeLessThan(500);
});

test.each([
  "model\0.safetensors",
  "model\x1b[2J.safetensors",
  "a/../model.safetensors",
  "C:model.safetensors",
])("a file named %j is not fetched", async (name) => {
  listing((_, response) => json(response, [file("config.json"), file("tokenizer.json"), file(name)]));
  await refusal().toMatchObject({ code: "REPO_NOT_A_CHECKPOINT" });
});

test("a token that no header can hold is named, and not shown", async () => {
  vi.stubEnv("HF_TOKEN", "hf_secret\nX-Evil: 1");
  const error = await pull(FakeHub.repo).catch((error) => error);
  expect(error).toMatchObject({ name: "InputError", code: "HUB_TOKEN" });
  expect(error.message).not.toContain("secret");
  expect(requests).toBe(0);
});

test("a cache in /proc ends in an error of our own", async () => {
  const names = ["config.json", "tokenizer.json", "model.safetensors"];
  listing((_, response) =>
    json(
      response,
      names.map((name) => file(name)),
    ),
  );
  vi.stubEnv("HF_HUB_CACHE", join("/proc", "nowhere", "hub"));
  await refusal().toMatchObject({ code: "CACHE_UNWRITABLE" });
});
