import { describe, expect, test } from "vitest";
import { AnswerFormatter } from "../../src/gate/answer-formatter.js";
import type { Part, TextPart } from "../../src/gate/parts.js";

/** What the guard reads, with what it does not judge in ( ) and what it streams again in [ ]. */
function shown(parts: Part<object>[]): string {
  return (parts as TextPart<object>[])
    .map(({ text, silent, again }) => (silent ? `(${text})` : again ? `[${text}]` : text))
    .join("");
}

describe("texts that come in turns", () => {
  test("one that goes on is read from its beginning, so that a word in two pieces is one word", () => {
    const reply = new AnswerFormatter<object>();
    const parts = [
      ...reply.text("content", "you are st", {}, "a"),
      ...reply.text("content", "All is ", {}, "b"),
      ...reply.text("content", "upid", {}, "a"),
      ...reply.text("content", "well", {}, "b"),
    ];
    expect(shown(parts)).toBe(
      "(<think>\n\n</think>\n\n)you are st(\n\n)All is (\n\n)[you are st]upid(\n\n)[All is ]well",
    );
  });

  test("also where the one between has ended", () => {
    const reply = new AnswerFormatter<object>();
    const parts = [
      ...reply.text("content", "you are st", {}, "a"),
      ...reply.text("content", "b", {}, "b"),
      ...reply.end({}, "b"),
      ...reply.text("content", "upid", {}, "a"),
    ];
    expect(shown(parts).endsWith("(\n\n)[you are st]upid")).toBe(true);
  });

  test("those that come one after the other are read once", () => {
    const reply = new AnswerFormatter<object>();
    const parts = [
      ...reply.text("content", "one", {}, "a"),
      ...reply.end({}, "a"),
      ...reply.text("content", "two", {}, "b"),
    ];
    expect(shown(parts)).toBe("(<think>\n\n</think>\n\n)onetwo");
  });

  test("of a long one the end is read again, not all of it", () => {
    const reply = new AnswerFormatter<object>();
    reply.text("content", "x".repeat(100_000), {}, "a");
    reply.text("content", "b", {}, "b");
    const [, again] = reply.text("content", "y", {}, "a") as TextPart<object>[];
    expect(again).toMatchObject({ again: true, text: "x".repeat(512) });
  });

  test("reasoning that goes on after text is read again too", () => {
    const reply = new AnswerFormatter<object>();
    const parts = [
      ...reply.text("reasoning", "hm", {}, "r"),
      ...reply.text("content", "a", {}, "t"),
      ...reply.text("reasoning", "mm", {}, "r"),
    ];
    expect(shown(parts)).toBe("(<think>\n)hm(\n</think>\n\n)a(\n\n)[hm]mm");
  });
});

describe("JSON", () => {
  const json = () => new AnswerFormatter<object>("", { json: true });
  const visible = (parts: Part<object>[]) =>
    (parts as TextPart<object>[]).filter(({ silent, again }) => !silent && !again);

  test("is read by its characters and released as it came", () => {
    const reply = json();
    const parts = visible([
      ...reply.text("content", '{"a": "\\u00', {}, "t"),
      ...reply.text("content", '73o\\n"}', {}, "t"),
      ...reply.end({}, "t"),
    ]);
    expect(parts.map(({ text }) => text).join("")).toBe('{"a": "so\n"}');
    expect(parts.map((part) => reply.source(part)).join("")).toBe('{"a": "\\u0073o\\n"}');
  });

  test("reasoning is no JSON", () => {
    expect(shown(json().text("reasoning", "\\u0073", {}, "r"))).toBe("(<think>\n)\\u0073");
  });

  test("an escape that the answer ends in comes out as it is", () => {
    const reply = json();
    const parts = visible([...reply.text("content", '"a\\u00', {}, "t"), ...reply.end({}, "t")]);
    expect(parts.map((part) => reply.source(part)).join("")).toBe('"a\\u00');
  });

  test("an escape in two texts, which their reader joins, is an error", () => {
    const reply = json();
    reply.text("content", '"\\u00', {}, "a");
    reply.end({}, "a");
    expect(() => reply.text("content", '73"', {}, "b")).toThrow(
      expect.objectContaining({ code: "ESCAPE_CUT" }),
    );
    const turns = json();
    turns.text("content", '"\\u00', {}, "a");
    turns.text("content", '73"', {}, "b");
    expect(() => turns.end({}, "a")).toThrow(expect.objectContaining({ code: "ESCAPE_CUT" }));
  });
});
