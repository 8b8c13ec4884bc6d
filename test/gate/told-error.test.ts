import { expect, test } from "vitest";
import { toldError } from "../../src/gate/told-error.js";

test.each<[string, unknown, string?]>([
  ["alone", { error: { message: "busy", code: 502 } }],
  ["beside choices", { choices: [], error: { message: "busy", code: 502 } }],
  ["of a choice", { choices: [{ index: 0, delta: {}, error: { message: "busy", code: 502 } }] }],
  ["as an object", { object: "error", message: "busy", code: 502 }],
  ["as a type", { type: "error", message: "busy", code: 502 }],
  ["as Anthropic writes it", { type: "error", error: { type: "502", message: "busy" } }],
  ["of a response", { type: "response.failed", response: { error: { message: "busy", code: "502" } } }],
  ["by the event's name", { message: "busy", code: 502 }, "error"],
])("an error %s is told with its message and code", (_, event, name) => {
  expect(toldError(event, name)).toEqual({ message: "busy", code: "502" });
});

test.each<[string, unknown, string?]>([
  ["a text", { error: "busy" }],
  ["a text in an event of that name", "busy", "error"],
  ["a detail", { detail: "busy" }],
])("an error that is %s is its message", (_, event, name) => {
  expect(toldError(event, name)).toEqual({ message: "busy", code: null });
});

test.each([
  ["a choice that finished for an error", { choices: [{ finish_reason: "error" }] }],
  ["a response that failed", { type: "response.failed", response: { error: null } }],
  ["an error that holds lists", { error: { message: ["busy"] } }],
])("%s is a failure without a word", (_, event) => {
  expect(toldError(event)?.message).toMatch(/does not say why/);
});

test.each([
  { choices: [{ delta: { content: "error" }, finish_reason: "stop" }] },
  { type: "response.created", response: { status: "in_progress", error: null } },
  { error: null, choices: [] },
  { id: "x", object: "chat.completion.chunk", choices: [], detail: "x" },
  {},
  null,
  1,
])("%j is no error", (event) => {
  expect(toldError(event)).toBeNull();
});
