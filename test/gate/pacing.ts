import fc from "fast-check";
import { ModeratedStream, type ModerationOptions } from "../../src/gate/moderate.js";
import type { ScoutOptions } from "../../src/gate/scout.js";
import type { PolicyData } from "../../src/moderation/policy.js";
import { type Finding, ruleResponse } from "../../src/moderation/ruling.js";
import type { Verdict } from "../../src/moderation/verdict.js";
import { policyOf, ScriptedStream } from "./scripted.js";

type Script = ConstructorParameters<typeof ScriptedStream>[0];

/** A text in chunks, and what a policy makes of it when it is judged as a whole. */
export interface Case {
  data: PolicyData;
  text: string;
  chunks: string[];
  violation: Finding | null;
  /** Text of each token. */
  tokens: string[];
}

const word = fc.constantFrom("fine ", "BAD ", "HMM ", "xBADx ", "so", "\n", "e\u0301 ", "👍", "BADPII ");
const policy: fc.Arbitrary<PolicyData> = fc.record({
  reading: fc.constantFrom("strict" as const, "loose" as const),
  debounce: fc.integer({ min: 1, max: 3 }),
  categories: fc.constantFrom<PolicyData["categories"]>({}, { PII: "ignore" }, { PII: "observe" }),
});

/** Any words under any policy, in any chunks: whole words, letters, halves of characters. */
export const cases: fc.Arbitrary<Case> = fc
  .tuple(
    fc.array(word, { maxLength: 20 }),
    fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 5 }),
    policy,
  )
  .map(([words, sizes, data]) => {
    const text = words.join("");
    const chunks: string[] = [];
    for (let at = 0, i = 0; at < text.length; i++) {
      chunks.push(text.slice(at, at + sizes[i % sizes.length]));
      at += chunks[i].length;
    }
    const verdicts = verdictsOf(text);
    return {
      data,
      text,
      chunks,
      violation: ruleResponse(verdicts, policyOf(data)).violation,
      tokens: tokensOf(text),
    };
  });

/** As the scripted guard cuts it. */
function tokensOf(text: string): string[] {
  return text.match(/\s*\S+|\s+$/g) ?? [];
}

function verdictsOf(text: string): Verdict[] {
  return tokensOf(text).map((token, index) => ScriptedStream.verdict(index, token));
}

/** All that a reader gets who reads whatever is there, and how it ended. */
export async function read(
  chunks: readonly string[],
  { policy: data, ...options }: Omit<ModerationOptions, "policy"> & { policy?: PolicyData },
  script: Script = {},
  scout: ScoutOptions | null = null,
) {
  async function* slowly() {
    for (const chunk of chunks) {
      // Readers have all they can get before more comes.
      for (let i = 0; i < 3; i++) await new Promise(setImmediate);
      yield chunk;
    }
  }
  const stream = new ScriptedStream(script);
  const moderated = new ModeratedStream<string>(
    slowly(),
    () => stream,
    { policy: policyOf(data), ...options },
    scout,
  );
  let out = "";
  let error: unknown = null;
  try {
    for await (const text of moderated) out += text;
  } catch (thrown) {
    error = thrown;
  }
  return { out, error, stream, outcome: await moderated.done };
}

/** Whether a text is the beginning of another and not all of it. */
export function begins(text: string, whole: string): boolean {
  return whole.startsWith(text) && text.length < whole.length;
}
