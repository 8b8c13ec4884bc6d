import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ModeratedStream } from "../../src/gate/moderate.js";
import { begins, cases, read } from "./pacing.js";
import { policyOf, ScriptedStream } from "./scripted.js";

beforeEach(() => {
  ScriptedStream.open = 0;
});
afterEach(() => expect(ScriptedStream.open).toBe(0));

describe("text that leaves once it is judged clear", () => {
  test("does not wait for what might still change its last word", async () => {
    const source = new TransformStream<string, string>();
    const writer = source.writable.getWriter();
    const moderated = new ModeratedStream(source.readable, () => new ScriptedStream(), {
      policy: policyOf(),
      release: "judged",
    });
    const steps: string[] = [];
    for (const chunk of ["Hel", "lo the", "re"]) {
      void writer.write(chunk);
      steps.push((await moderated.next()).value as string);
    }
    expect(steps).toEqual(["Hel", "lo the", "re"]);
    await moderated.return();
  });

  test("of a word that a later letter turns into a flag nothing more is seen, nor of what follows", async () => {
    const { out, error } = await read(["so B", "A", "D BAD", " more"], { release: "judged" });
    expect(out).toBe("so BA");
    expect(error).toMatchObject({ index: 2, span: { start: 2, end: 10, text: " BAD BAD" } });
  });

  test("goes on where the flagged word stays alone", async () => {
    const { out, error } = await read(["so B", "AD", " or not", "?"], { release: "judged" });
    expect(error).toBeNull();
    expect(out).toBe("so BAD or not?");
  });

  test("is, for any words in any chunks, what the policy lets pass and at most a beginning of the word that it stops at", async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ data, text, chunks, violation, tokens }) => {
        const { out, error } = await read(chunks, { policy: data, release: "judged" });
        if (!violation) {
          expect(error).toBeNull();
          expect(out).toBe(text);
          return;
        }
        expect(error).toMatchObject({ index: violation.index, finding: { from: violation.from } });
        const passed = tokens.slice(0, violation.from).join("");
        const seen = out.slice(passed.length);
        expect(out.startsWith(passed)).toBe(true);
        expect(begins(seen, tokens[violation.from])).toBe(true);
        // What was seen was no flag when it left: with its last character, or the half of one that it waited for.
        expect(/BAD|HMM/.test(seen)).toBe(false);
        const ends = chunks.map((_, i) => chunks.slice(0, i + 1).join("").length);
        expect(seen === "" || ends.some((end) => end - out.length === 0 || end - out.length === 1)).toBe(
          true,
        );
      }),
      { numRuns: 500 },
    );
  });

  test("is never less than what leaves once it has settled", async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ data, chunks }) => {
        const [early, late] = [
          await read(chunks, { policy: data, release: "judged" }),
          await read(chunks, { policy: data, release: "settled" }),
        ];
        expect(early.out.startsWith(late.out)).toBe(true);
        expect(early.outcome.violation?.index).toBe(late.outcome.violation?.index);
        expect(early.outcome.violation?.span).toEqual(late.outcome.violation?.span);
      }),
      { numRuns: 200 },
    );
  });
});
