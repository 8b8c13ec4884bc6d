import fc from "fast-check";
import { expect, test } from "vitest";
import { Marks } from "../../../src/tokenizer/normalization/marks.js";
import { qwen3 } from "../qwen3.js";

test("of any text, a whole mark is its control token, and the rest is the text between them", async () => {
  const { controlTokens } = await qwen3();
  const marks = new Marks(await qwen3());
  const { nonce } = marks;
  const ids = new Map([...controlTokens].map(([token, id]) => [marks.mark(token), id]));
  // A mark that no token has is a text of its own.
  const others = [
    `${nonce}x999x`,
    nonce,
    `${nonce}x`,
    `${nonce}x1`,
    nonce.slice(0, 9),
    "x1x",
    "x",
    "2",
    "words",
  ];
  const piece = fc.constantFrom(...[...ids.keys()].slice(0, 3), ...others);
  const property = fc.property(fc.array(piece, { maxLength: 12 }), (some) => {
    const rendered = some.join("");
    const split = rendered.split(new RegExp(`(${nonce}x\\d+x)`)).filter((part) => part !== "");
    expect(marks.parts(rendered)).toEqual(split.map((part) => ids.get(part) ?? part));
  });
  fc.assert(property, { numRuns: 2000, seed: 1 });
});
