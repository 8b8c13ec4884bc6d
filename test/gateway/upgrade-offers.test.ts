import { afterAll, expect, test } from "vitest";
import { listen } from "../../src/gateway/server.js";
import { loadGuard } from "../../src/index.js";
import { GuardService } from "../../src/serve/service.js";
import { askRaw, javaRequest } from "../support/raw-http.js";
import { serving } from "./serving.js";

const state = serving();
const guard = await loadGuard({ maxStreams: 2 });
const service = await listen(new GuardService(guard), 0, "127.0.0.1");
afterAll(async () => {
  await service.close(0);
  await guard.close();
});
const body = JSON.stringify({ model: "m", messages: [{ role: "user", content: "Hi" }] });

test("serve answers a client that offers HTTP/2, as Java's does, over HTTP/1.1, one request after the other", async () => {
  const answers = await askRaw(service.url, [
    javaRequest("POST", "/v1/chat/completions", body),
    javaRequest("GET", "/v1/models"),
    javaRequest("GET", "/healthz"),
    javaRequest("POST", "/v1/classify", body),
    javaRequest("GET", "/v1/streams"),
  ]);
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 426]);
  expect(answers[0].body).toContain("Safety: ");
});

test("the proxy answers it too, and passes the offer on to nobody", async () => {
  state.upstream.answerWith(() => ({ type: "application/json", script: ['{"choices":[]}'] }));
  const { url } = await state.start();
  const answers = await askRaw(url, [
    javaRequest("POST", "/v1/chat/completions", body),
    javaRequest("GET", "/v1/models"),
  ]);
  expect(answers.map(({ status }) => status)).toEqual([200, 200]);
  expect(state.upstream.asked).toHaveLength(2);
  for (const { headers } of state.upstream.asked) {
    expect(headers.upgrade).toBeUndefined();
    expect(headers["http2-settings"]).toBeUndefined();
    expect(headers.connection).not.toMatch(/upgrade/i);
  }
});
