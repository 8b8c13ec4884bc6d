import { describe, expect, test } from "vitest";
import { Routes } from "../../../src/gateway/access/routes.js";

const routes = new Routes({});

describe("without options", () => {
  test.each([
    ["POST", "/v1/chat/completions", "/chat/completions"],
    ["POST", "/openai/deployments/g/chat/completions", "/chat/completions"],
    ["POST", "/v1/engines/x/completions", "/completions"],
    ["POST", "/v1/responses", "/responses"],
    ["POST", "/v1/messages", "/v1/messages"],
    ["POST", "/anthropic/v1/messages/", "/v1/messages"],
    ["POST", "/API/chat", "/api/chat"],
    ["POST", "/ollama/api/generate", "/api/generate"],
  ])("%s %s is judged", (method, path, endpoint) => {
    expect(routes.of(method, path)).toMatchObject({ kind: "judged", endpoint });
  });

  test.each([
    ["GET", "/v1/models", "/models"],
    ["HEAD", "/models", "/models"],
    ["GET", "/v1/models/gpt-5", "/models"],
    ["GET", "/v1/models/Qwen/Qwen3-8B", "/models"],
    ["GET", "/v1/models/Qwen%2FQwen3-8B", "/models"],
    ["POST", "/v1/embeddings", "/embeddings"],
    ["POST", "/openai/deployments/g/embeddings", "/embeddings"],
    ["POST", "/v1/messages/count_tokens", "/count_tokens"],
    ["GET", "/api/tags", "/api/tags"],
    ["HEAD", "/api/version", "/api/tags"],
    ["POST", "/api/show", "/api/show"],
    ["POST", "/api/embed", "/api/embed"],
  ])("%s %s passes unjudged", (method, path, endpoint) => {
    expect(routes.of(method, path)).toEqual({ kind: "unjudged", endpoint });
  });

  test.each([
    ["POST", "/v1/messages/batches"],
    ["POST", "/api/pull"],
    ["POST", "/api/create"],
    ["POST", "/messages"],
    ["POST", "/v1/responses/compact"],
    ["POST", "/v1/chat/completions/stream"],
    ["POST", "/v1/chat/completions.json"],
    ["POST", "/v1/models"],
    ["POST", "/v1/embeddings%2F..%2Frerank"],
    ["GET", "/v1/responses/resp_1"],
    ["GET", "/v1/models/a/b/c/d"],
    ["GET", "/v1/models;x"],
    ["GET", "/v1/realtime"],
    ["DELETE", "/v1/models/m"],
    ["GET", "/"],
  ])("%s %s is not found", (method, path) => {
    expect(routes.of(method, path)).toEqual({ kind: "refused", endpoint: "other", status: 404 });
  });

  test.each([
    ["PUT", "/v1/chat/completions"],
    ["PATCH", "/v1/completions"],
    ["QUERY", "/v1/responses"],
    ["GET", "/v1/chat%2Fcompletions"],
    ["GET", "/v1/models/x%2Fchat%2Fcompletions"],
    ["DELETE", "/v1/moderations"],
  ])("%s %s is no method of a judged path", (method, path) => {
    expect(routes.of(method, path)).toMatchObject({ kind: "refused", status: 405 });
  });
});

describe("paths that are opened", () => {
  const allowPaths = ["/v1/files/*", "GET /v1/responses/**", "POST /v1/rerank"];
  const opened = new Routes({ allowPaths });

  test.each([
    ["PUT", "/v1/files/a", "/v1/files/*"],
    ["GET", "/v1/responses/r/input_items", "GET /v1/responses/**"],
    ["POST", "/v1/rerank", "POST /v1/rerank"],
  ])("%s %s", (method, path, endpoint) => {
    expect(opened.of(method, path)).toEqual({ kind: "unjudged", endpoint });
  });

  test.each([
    ["GET", "/v1/files/a/b"],
    ["DELETE", "/v1/responses/r"],
    ["GET", "/v1/rerank"],
    ["POST", "/v1/messages/batches"],
    ["POST", "/x/v1/rerank"],
    ["GET", "/v1/files/..%2frerank"],
    ["GET", "/v1/responses/%2e%2e%2f%2e%2e/api/tags"],
    ["GET", "/v1/responses/a;b"],
    ["GET", "/v1/responses//a"],
  ])("not %s %s", (method, path) => {
    expect(opened.of(method, path).kind).toBe("refused");
  });

  test("what is judged stays judged", () => {
    const all = new Routes({ allowPaths: ["/**"], otherPaths: "pass" });
    expect(all.of("POST", "/v1/chat/completions").kind).toBe("judged");
    expect(all.of("POST", "/v1/files/..%2fchat%2fcompletions").kind).toBe("judged");
    expect(all.of("POST", "/v1/files/..%2fmessages").kind).toBe("judged");
    expect(all.of("POST", "/v1/messages").kind).toBe("judged");
    expect(all.of("PUT", "/v1/chat/completions")).toMatchObject({ kind: "refused", status: 405 });
    expect(all.of("GET", "/v1/chat/completions").kind).toBe("unjudged");
    expect(all.of("POST", "/api/pull")).toEqual({ kind: "unjudged", endpoint: "/**" });
  });

  test("all of them", () => {
    expect(new Routes({ otherPaths: "pass" }).of("POST", "/api/pull")).toEqual({
      kind: "unjudged",
      endpoint: "other",
    });
  });

  test.each(["v1/files", "GET", "/v1/a?b", "", "GET POST /v1"])("%j is no path to open", (path) => {
    expect(() => new Routes({ allowPaths: [path] })).toThrow(/no path to allow/);
  });

  test("letters that mean something in expressions mean themselves", () => {
    const dots = new Routes({ allowPaths: ["/v1.0/(a)"] });
    expect(dots.of("GET", "/v1.0/(a)").kind).toBe("unjudged");
    expect(dots.of("GET", "/v1x0/a").kind).toBe("refused");
  });
});
