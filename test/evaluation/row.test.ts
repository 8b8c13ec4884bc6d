import { describe, expect, test } from "vitest";
import { parseRow, type Row } from "../../src/evaluation/row.js";

const MESSAGE = [
  { role: "user", content: "q" },
  { role: "assistant", content: "a" },
];

function row(value: unknown, type: "prompt" | "response" = "response"): Row {
  const parsed = parseRow(value, 7, type);
  if (!("row" in parsed)) throw new Error(JSON.stringify(parsed));
  return parsed.row;
}

describe("official layout", () => {
  test("a response with its span", () => {
    const value = {
      message: MESSAGE,
      label: "Unsafe",
      unsafe_start_index: 3,
      unsafe_end_index: 9,
      source: "s",
    };
    expect(row(value)).toMatchObject({
      line: 7,
      data: value,
      messages: MESSAGE,
      annotation: {
        label: "unsafe",
        unsafe: { strict: true, loose: true },
        span: [3, 9],
        source: "s",
        category: null,
      },
    });
  });

  test("spans of safe rows and of prompts count for nothing", () => {
    const span = { unsafe_start_index: 3, unsafe_end_index: 9 };
    expect(row({ message: MESSAGE, label: "Safe", ...span }).annotation.span).toBeNull();
    expect(row({ message: MESSAGE, label: "Unsafe", ...span }, "prompt").annotation.span).toBeNull();
  });

  test("controversial is not unsafe in either reading, as in the official scorer", () => {
    expect(row({ message: MESSAGE, label: "Controversial" }).annotation.unsafe).toEqual({
      strict: false,
      loose: false,
    });
  });
});

describe("plain layout", () => {
  const both = { prompt: "q", response: "a", prompt_label: "unsafe", response_label: "controversial" };

  test("each type takes its own text and label", () => {
    expect(row(both, "prompt")).toMatchObject({
      messages: [MESSAGE[0]],
      annotation: { label: "unsafe" },
    });
    expect(row(both)).toMatchObject({
      messages: MESSAGE,
      annotation: { label: "controversial", unsafe: { strict: true, loose: false } },
    });
  });

  test("what is optional may be missing: left out, not bad", () => {
    expect(parseRow({ prompt: "q" }, 1, "prompt")).toEqual({ missing: "prompt_label" });
    expect(parseRow({ prompt: "q", prompt_label: "safe" }, 1, "response")).toEqual({ missing: "response" });
    expect(parseRow({ prompt: "q", response: null, response_label: "safe" }, 1, "response")).toEqual({
      missing: "response",
    });
    expect(parseRow({ prompt: "q", response: "a" }, 1, "response")).toEqual({ missing: "response_label" });
  });
});

test.each([
  [null],
  ["text"],
  [[MESSAGE]],
  [{}],
  [{ message: [], label: "Safe" }],
  [{ message: "hi", label: "Safe" }],
  [{ message: [MESSAGE[0]], label: "Safe" }],
  [{ message: MESSAGE }],
  [{ message: MESSAGE, label: "harmful" }],
  [{ message: MESSAGE, label: "Unsafe", unsafe_start_index: 3 }],
  [{ message: MESSAGE, label: "Unsafe", unsafe_start_index: 3, unsafe_end_index: 2 }],
  [{ message: MESSAGE, label: "Unsafe", unsafe_start_index: -1, unsafe_end_index: 2 }],
  [{ message: MESSAGE, label: "Unsafe", unsafe_start_index: 1.5, unsafe_end_index: 2 }],
  [{ prompt: 1, response: "a", response_label: "safe" }],
  [{ prompt: "q", response: 1, response_label: "safe" }],
  [{ prompt: "q", response: "a", response_label: "bad" }],
  [{ prompt: "q", response: "a", response_label: 1 }],
])("bad: %j", (value) => {
  expect(parseRow(value, 1, "response")).toEqual({ problem: expect.any(String) });
});

test("rows that differ have different digests", () => {
  const digests = ["a", "b", "a"].map(
    (response) => row({ prompt: "q", response, response_label: "safe" }).digest,
  );
  expect(digests[0]).toBe(digests[2]);
  expect(digests[0]).not.toBe(digests[1]);
});
