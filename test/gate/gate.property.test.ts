import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { NumericError } from "../../src/errors.js";
import { ModeratedStream } from "../../src/gate/moderate.js";
import type { Verdict } from "../../src/moderation/verdict.js";
import { policyOf, ScriptedStream } from "./scripted.js";

const FAULTS = ["none", "source", "signal", "reader", "guard", "closed"] as const;

/** A judge that remembers what stands, and can be closed under the gate's hands. */
class WatchedStream extends ScriptedStream {
  readonly #verdicts: Verdict[] = [];
  /** The source is at its end: what stands at the end of the text becomes no row any more. */
  sourceEnded = false;

  override async pushText(text: string): Promise<Verdict[]> {
    return this.#note(await super.pushText(text));
  }

  override async flush(): Promise<Verdict[]> {
    return this.#note(await super.flush());
  }

  /** The text that no flag can reach any more: all that stands, but a row at its end that may become a flag. */
  get clear(): string {
    let safe = 0;
    for (let i = 0, row = 0; i < this.settled; i++) {
      row = this.#verdicts[i].risk === "Safe" ? 0 : row + 1;
      if (row === 0) safe = i + 1;
      if (row === 2) return this.#text(safe);
    }
    return this.#text(this.sourceEnded ? this.settled : safe);
  }

  #text(tokens: number): string {
    return this.#verdicts
      .slice(0, tokens)
      .map(({ text }) => text)
      .join("");
  }

  #note(verdicts: Verdict[]): Verdict[] {
    for (const verdict of verdicts) this.#verdicts[verdict.index] = verdict;
    return verdicts;
  }
}

/** Lets the event loop turn so many times. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
}

/** The numbers in turns, without end. */
function cycle(numbers: readonly number[]): () => number {
  let at = 0;
  return () => numbers[at++ % numbers.length];
}

const numbers = (max: number, min = 0) => fc.array(fc.integer({ min, max }), { minLength: 1, maxLength: 6 });
const scripts = fc.record({
  words: fc.array(fc.constantFrom("fine ", "so, ", "BAD ", "HMM ", "ok", "\n\n"), { maxLength: 24 }),
  sizes: numbers(9, 1),
  sourceWaits: numbers(3),
  judgeWaits: numbers(3),
  readerWaits: numbers(3),
  fault: fc.constantFrom(...FAULTS),
  at: fc.nat(40),
});

afterEach(() => expect(ScriptedStream.open).toBe(0));

test("in hold-back nothing leaves that is not judged and clear, whatever fails or leaves in between", async () => {
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(scripts, async ({ words, sizes, sourceWaits, judgeWaits, readerWaits, fault, at }) => {
      const text = words.join("");
      const controller = new AbortController();
      const waits = { source: cycle(sourceWaits), judge: cycle(judgeWaits), reader: cycle(readerWaits) };
      let events = 0;
      const judge = new WatchedStream({
        failAt: fault === "guard" ? at : undefined,
        async beforePush() {
          if (fault === "closed" && events++ >= at % 8)
            judge.close(new NumericError("LOGITS_NOT_FINITE", "scripted"));
          await turns(waits.judge());
        },
      });
      async function* source(): AsyncGenerator<string> {
        const size = cycle(sizes);
        try {
          for (let from = 0; from < text.length; ) {
            if (fault === "source" && from >= at) throw new Error("scripted");
            if (fault === "signal" && from >= at) controller.abort();
            const to = from + size();
            yield text.slice(from, to);
            from = to;
            await turns(waits.source());
          }
        } finally {
          judge.sourceEnded = true;
        }
      }
      const stream = new ModeratedStream(source, () => judge, {
        policy: policyOf(),
        signal: controller.signal,
      });
      let out = "";
      try {
        for await (const part of stream) {
          out += part;
          expect(judge.clear.startsWith(out)).toBe(true);
          if (fault === "reader" && out.length >= at) break;
          await turns(waits.reader());
        }
      } catch {
        // How it ended is in `done`.
      }
      const { end, decision } = await stream.done;
      seen.set(end, (seen.get(end) ?? 0) + 1);
      expect(text.startsWith(out)).toBe(true);
      expect(judge.clear.startsWith(out)).toBe(true);
      // A reader who leaves may leave behind what has passed.
      if (fault === "reader") return;
      if (end === "complete") expect([out, decision === null]).toEqual([text, text === ""]);
      if (end === "flagged") expect(out).toBe(judge.clear);
    }),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 400) },
  );
  expect([...seen.keys()].sort()).toEqual(["cancelled", "complete", "failed", "flagged"]);
});
