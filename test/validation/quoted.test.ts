import { expect, test } from "vitest";
import { quotedName } from "../../src/validation/quoted.js";

test.each([
  ["a name", "top_k", '"top_k"'],
  ["the longest that is shown whole", "x".repeat(40), `"${"x".repeat(40)}"`],
  ["a text in its place", "x".repeat(10_000), `"${"x".repeat(40)}…"`],
  ["an escape for a terminal", "\u001b[31m", '"\\u001b[31m"'],
  ["half of a character, where it is cut", `${"x".repeat(39)}😀`, `"${"x".repeat(39)}\\ud83d…"`],
  ["null", null, "(null)"],
  ["an object, of which nothing is shown", { text: "secret" }, "(object)"],
  ["nothing", undefined, "(undefined)"],
])("a stranger's name in a message: %s", (_, name, shown) => {
  expect(quotedName(name)).toBe(shown);
});
