import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { guardMiddleware } from "../../../src/adapters/ai-sdk.js";
import { type Guard, loadGuard } from "../../../src/guard.js";
import { finish, MAJORS, type StreamPart } from "./majors.js";

/** Pieces that end within characters, escapes, marks of the template and of JSON. */
const PIECES = [
  ..."a, ,Hello,\ud83d,\ude00,\u0301,e,\u0344,\0,\ufeff,\u200b,\u1100,\u1161,\u11a8,<think>,</think>,<|im_end|>".split(
    ",",
  ),
  ...'\r\n,\u202e,\u0323,\ufb01,\u212b,\n\n,中文,\u0e33,\ud800,\\,\\u,00,73,\\u0073,\\n,\\\\,"'.split(","),
];
const CHANNELS = { a: "text", b: "text", r: "reasoning" } as const;
type Id = keyof typeof CHANNELS;
const ids = Object.keys(CHANNELS) as Id[];

const text = fc
  .array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 4 })
  .map((pieces) => pieces.join(""));
const deltas = fc.array(fc.tuple(fc.constantFrom(...ids), text), { maxLength: 40 });

let guard: Guard;
beforeAll(async () => {
  guard = await loadGuard();
});
afterAll(() => guard.close());

describe.each(MAJORS)("ai $major", ({ Mock, sdk }) => {
  const { simulateReadableStream, wrapLanguageModel } = sdk;

  test.each([
    ["hold-back", "text"],
    ["hold-back", "json"],
    ["stream-first", "text"],
    ["stream-first", "json"],
  ] as const)("%s, %s: each block comes out byte for byte, however blocks take turns", async (mode, type) => {
    await fc.assert(
      fc.asyncProperty(deltas, async (said) => {
        const parts: StreamPart[] = [
          ...ids.map((id) => ({ type: `${CHANNELS[id]}-start` as const, id })),
          ...said.map(([id, delta]) => ({ type: `${CHANNELS[id]}-delta` as const, id, delta })),
          ...ids.map((id) => ({ type: `${CHANNELS[id]}-end` as const, id })),
          finish,
        ];
        const stream = simulateReadableStream({
          chunks: parts,
          initialDelayInMs: null,
          chunkDelayInMs: null,
        });
        const model = wrapLanguageModel({
          model: new Mock({ doStream: async () => ({ stream }) }),
          middleware: guardMiddleware(guard, { mode, policy: { action: "ignore" } }),
        });
        const prompt = [{ role: "user" as const, content: [{ type: "text" as const, text: "Hi" }] }];
        const out = { a: "", b: "", r: "" };
        let cut = false;
        for await (const part of (await model.doStream({ prompt, responseFormat: { type } })).stream) {
          if (part.type === "text-delta" || part.type === "reasoning-delta") out[part.id as Id] += part.delta;
          if (part.type === "error") {
            cut = (part.error as { code?: string }).code === "ESCAPE_CUT";
            if (!cut) throw part.error;
          }
        }
        for (const id of ids) {
          const whole = said.map(([to, delta]) => (to === id ? delta : "")).join("");
          if (cut) expect(whole.startsWith(out[id])).toBe(true);
          else expect(out[id]).toBe(whole);
        }
      }),
      { numRuns: 30 },
    );
  });
});
