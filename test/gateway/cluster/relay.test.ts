import { expect, test } from "vitest";
import { AnswerState } from "../../../src/gateway/cluster/relay.js";

const HEAD =
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
const EVENT = 'd\r\ndata: {"a":1}\n\n\r\n';

function after(...said: (string | null)[]): string {
  const state = new AnswerState();
  for (const text of said) {
    if (text === null) state.asked();
    else state.said(Buffer.from(text));
  }
  return state.conclusion().toString();
}

test("an event stream that breaks off between two events ends with an error event", () => {
  const ends = [
    after(null, HEAD + EVENT),
    after(null, HEAD, EVENT),
    after(null, HEAD),
    after(null, ...(HEAD + EVENT).split("")),
  ];
  for (const end of ends) {
    const [, length, body] = /^([0-9a-f]+)\r\n([\s\S]*)\r\n0\r\n\r\n$/.exec(end) ?? [];
    expect(Number.parseInt(length, 16)).toBe(Buffer.byteLength(body));
    const data = JSON.parse(/^event: error\ndata: (.*)\n\n$/.exec(body)?.[1] ?? "");
    expect(data).toMatchObject({ type: "error", code: "worker_lost", error: { code: "worker_lost" } });
  }
});

test("a request that nothing was said to gets a 503", () => {
  const whole = `${HEAD}${EVENT}0\r\n\r\n`;
  for (const end of [after(null), after(null, whole, null)]) {
    const [head, body] = end.split("\r\n\r\n");
    expect(head).toMatch(/^HTTP\/1\.1 503 /);
    expect(head).toContain(`content-length: ${body.length}`);
    expect(JSON.parse(body)).toMatchObject({ error: { code: "worker_lost" } });
  }
});

test.each([
  ["after a whole answer", [null, `${HEAD}${EVENT}0\r\n\r\n`]],
  ["after an answer without a body", [null, "HTTP/1.1 204 No Content\r\n\r\n"]],
  ["within an event's chunk", [null, HEAD + EVENT.slice(0, -4)]],
  ["within a body that is no event stream", [null, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"]],
  ["where nobody asked", []],
])("nothing is said %s", (_, said) => {
  expect(after(...said)).toBe("");
});
