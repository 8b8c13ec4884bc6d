import fc from "fast-check";
import { expect, test } from "vitest";
import { BYTE_LETTERS } from "../../../src/tokenizer/bpe/byte-alphabet.js";
import { Merges } from "../../../src/tokenizer/bpe/merges.js";
import { PreToken } from "../../../src/tokenizer/bpe/pre-token.js";
import { TokenStack } from "../../../src/tokenizer/bpe/token-stack.js";

const numRuns = Number(process.env.PROPERTY_RUNS ?? 500);
const timeout = Math.max(240_000, numRuns * 200);

interface Language {
  merges: Merges;
  rules: [string, string][];
  ids: Map<string, number>;
}

/** Vocabularies of three letters with rules in any order that building allows: torn tokens, overlaps, ties. */
const language: fc.Arbitrary<Language> = fc
  .array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 14 })
  .map((picks) => {
    const tokens = ["a", "b", "c"];
    const rules: [string, string][] = [];
    for (const [i, j] of picks) {
      const [left, right] = [tokens[i % tokens.length], tokens[j % tokens.length]];
      if (tokens.includes(left + right) || left.length + right.length > 12) continue;
      tokens.push(left + right);
      rules.push([left, right]);
    }
    const ids = new Map([...BYTE_LETTERS, ...tokens.slice(3)].map((token, id) => [token, id]));
    return { merges: new Merges(ids, rules, "test"), rules, ids };
  });

/** BPE by the book. */
function bpe(text: string, { rules, ids }: Language): number[] {
  let parts = [...text];
  for (;;) {
    const rule = rules.find(([a, b]) => parts.some((part, i) => part === a && parts[i + 1] === b));
    if (rule === undefined) return parts.map((part) => ids.get(part) as number);
    const at = parts.findIndex((part, i) => part === rule[0] && parts[i + 1] === rule[1]);
    parts = [...parts.slice(0, at), rule.join(""), ...parts.slice(at + 2)];
  }
}

const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 60 });

test(
  "byte by byte, for any vocabulary whose tokens have one way of being built",
  () => {
    fc.assert(
      fc.property(language, word, word, (some, text, more) => {
        const piece = new PreToken(some.merges, 0);
        const stack = new TokenStack();
        for (let n = 1; n <= text.length; n++) {
          piece.append(text.charCodeAt(n - 1));
          piece.write(stack);
          expect(stack.toArray()).toEqual(bpe(text.slice(0, n), some));
          // What stands is forgotten when there is more.
          piece.settled(n - 1);
        }

        const ids = stack.toArray();
        const idsUpTo = (bytes: number) => ids.findIndex((_, i) => stack.endAt(i) === bytes) + 1;
        const stands = idsUpTo(piece.settled());
        const cut = text.length - 1;
        const standsCutOff = idsUpTo(piece.settled(cut));
        for (let n = 0; n <= more.length; n++) {
          const longer = bpe(text + more.slice(0, n), some);
          expect(longer.slice(0, stands)).toEqual(ids.slice(0, stands));
        }
        expect(stands > 0).toBe(piece.settled() > 0);
        expect(standsCutOff).toBeLessThanOrEqual(stands);

        const cutOff = bpe(text.slice(0, cut), some);
        expect(cutOff.slice(0, standsCutOff)).toEqual(ids.slice(0, standsCutOff));
        piece.write(stack, cut);
        expect(stack.toArray()).toEqual(cutOff);
      }),
      { numRuns },
    );
  },
  timeout,
);

test(
  "a fork goes its own way",
  () => {
    fc.assert(
      fc.property(language, word, word, word, (some, text, one, other) => {
        const piece = new PreToken(some.merges, 0);
        for (const letter of text) piece.append(letter.charCodeAt(0));
        for (const rest of [one, other]) {
          const fork = piece.fork();
          for (const letter of rest) fork.append(letter.charCodeAt(0));
          const stack = new TokenStack();
          fork.write(stack);
          expect(stack.toArray()).toEqual(bpe(text + rest, some));
        }
      }),
      { numRuns },
    );
  },
  timeout,
);
