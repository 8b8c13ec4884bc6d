import fc from "fast-check";
import { expect, test } from "vitest";
import { answered } from "../answering.js";
import { PROTOCOLS } from "../protocols.js";

/** Cases a protocol; FUZZ_RUNS asks for more. */
const numRuns = Number(process.env.FUZZ_RUNS ?? 40);
const timeout = Math.max(240_000, numRuns * 100);

/** The scripted guard flags "BAD", twice in a row. */
const CLEAR = ["Grüße, ", "一二 ", "and 👍🏽 ", "words."];
const FLAGGED = [...CLEAR, " never", " BAD", " BADSECRET", " may", " anybody", " read"];

/** How a server may write an event: all mean the same. */
interface Framing {
  /** Of a line. */
  end: "\n" | "\r\n" | "\r";
  /** JSON over several `data` lines. */
  spread: boolean;
  /** Of a field. */
  space: boolean;
  /** Lines around it that say nothing of the answer. */
  beside: string;
}

const framing = fc.record<Framing>({
  end: fc.constantFrom("\n", "\r\n", "\r"),
  spread: fc.boolean(),
  space: fc.boolean(),
  beside: fc.constantFrom("", ": BADSECRET", "id: BADSECRET", "retry: 10", "whatever: BADSECRET", "event"),
});

/** An event that was written as `data: …`, and its name ahead of it where it has one, in another way. */
function reframed(event: string, { end, spread, space, beside }: Framing): string {
  const lines = event.trimEnd().split("\n");
  const data = (lines.pop() as string).replace(/^data: /, "");
  const written = spread && data.startsWith("{") ? JSON.stringify(JSON.parse(data), null, 1) : data;
  const said = written.split("\n").map((line) => `data:${space ? " " : ""}${line}`);
  return [...(beside === "" ? [] : [beside]), ...lines, ...said, "", ""].join(end);
}

/** Bytes cut at places of any kind: in a line's end, in a letter. */
function cut(text: string, sizes: number[]): Uint8Array[] {
  const bytes = new TextEncoder().encode(text);
  const pieces: Uint8Array[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length];
    pieces.push(bytes.subarray(at, at + size));
    at += size;
  }
  return pieces;
}

const cases = fc.record({
  framings: fc.array(framing, { minLength: 1, maxLength: 4 }),
  sizes: fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 }),
  mark: fc.boolean(),
  flagged: fc.boolean(),
  ends: fc.boolean(),
});

test.each(PROTOCOLS.map((protocol) => [protocol.path, protocol] as const))(
  "%s: a stream means the same however its events are written and cut, and what is flagged never leaves",
  async (path, protocol) => {
    const endpoint = path.startsWith("/v1/messages") ? path : path.replace(/^\/v1/, "");
    const isLines = protocol.contentType !== "text/event-stream";
    await fc.assert(
      fc.asyncProperty(cases, async ({ framings, sizes, mark, flagged, ends }) => {
        const events = protocol.stream(flagged ? FLAGGED : CLEAR);
        const written = events.map((event, i) => {
          const own = framings[i % framings.length];
          // Of JSON lines only the ends differ, and lines between may be empty.
          return isLines
            ? event.replace("\n", own.spread ? "\r\n\n" : own.end.replace(/^\r$/, "\n"))
            : reframed(event, own);
        });
        const all = (mark && !isLines ? "\ufeff" : "") + written.join("");
        const text = ends ? all : all.trimEnd();
        const { text: raw, error } = await answered(endpoint, "", {
          bytes: cut(text, sizes),
          type: protocol.contentType,
        });
        expect(error).toBeNull();
        expect(raw).not.toContain("BADSECRET");
        const { text: said, failed } = protocol.read(raw);
        expect(failed, raw).toBe(false);
        if (flagged) expect(`${CLEAR.join("")} never`.startsWith(said), said).toBe(true);
        else expect(said).toBe(CLEAR.join(""));
        expect(/"content_filter"|"refusal"/.test(raw)).toBe(flagged);
      }),
      { numRuns },
    );
  },
  timeout,
);
