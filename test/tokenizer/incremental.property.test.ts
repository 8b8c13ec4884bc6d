import assert from "node:assert/strict";
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { IncrementalDecoder, IncrementalEncoder } from "../../src/tokenizer/incremental.js";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.js";
import { libraryEncoders } from "./library.js";
import { qwen3 } from "./qwen3.js";
import { Reader } from "./reader.js";
import { chunks, texts } from "./texts.js";

/** PROPERTY_RUNS=10000 for a thorough search. */
const numRuns = Number(process.env.PROPERTY_RUNS ?? 300);
const timeout = Math.max(240_000, numRuns * 200);

let tokenizer: Tokenizer;
let library: Awaited<ReturnType<typeof libraryEncoders>>;
beforeAll(async () => {
  tokenizer = await qwen3();
  library = await libraryEncoders();
});

test(
  "after every push the ids are those of all text so far, and what stood stands",
  () => {
    fc.assert(
      fc.property(chunks, (cut) => {
        const encoder = new IncrementalEncoder(tokenizer);
        const reader = new Reader();
        let soFar = "";
        for (const chunk of cut) {
          reader.take(encoder.push(chunk));
          soFar += chunk;
          const held = /[\ud800-\udbff]$/.test(soFar) ? soFar.slice(0, -1) : soFar;
          assert.deepEqual(reader.ids, library.content(held));
        }
        const last = encoder.end();
        assert.equal(last.provisional, 0);
        reader.take(last);
        assert.deepEqual(reader.ids, library.content(soFar));
      }),
      { numRuns },
    );
  },
  timeout,
);

test(
  "encoding at once",
  () => {
    fc.assert(
      fc.property(texts, (text) => {
        expect(tokenizer.encode(text)).toEqual(library.content(text));
        expect(tokenizer.encodeTemplated(text)).toEqual(library.templated(text));
      }),
      { numRuns },
    );
  },
  timeout,
);

test(
  "decoding id by id gives the text of all ids",
  () => {
    const ids = fc.array(fc.integer({ min: 0, max: tokenizer.vocabSize - 1 }), { maxLength: 40 });
    const bytes = fc.array(fc.constantFrom(0, 64, 160, 161, 162, 187, 222, 223, 235, 241, 188, 253), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(fc.oneof(ids, bytes), (all) => {
        const decoder = new IncrementalDecoder(tokenizer);
        const text = all.map((id) => decoder.push(id)).join("") + decoder.end();
        expect(text).toBe(tokenizer.decode(all));
        expect(text).toBe(Buffer.concat(all.map((id) => tokenizer.tokenBytes(id))).toString("utf8"));
      }),
      { numRuns },
    );
  },
  timeout,
);
