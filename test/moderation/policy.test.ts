import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputError } from "../../src/errors.js";
import { decide } from "../../src/moderation/decision.js";
import {
  DEFAULT_POLICY,
  type PolicyData,
  type PromptScope,
  parsePolicy,
  replacementOf,
  resolvePolicy,
} from "../../src/moderation/policy.js";
import { type Evidence, rulePrompt, ruleResponse, turnsInScope } from "../../src/moderation/ruling.js";
import type { TurnVerdict } from "../../src/moderation/verdict.js";
import { LABELS, policyOf, verdict } from "../gate/scripted.js";

const RISK: Record<string, string> = { s: "Safe", u: "Unsafe", c: "Controversial" };

/** One token a letter: s, u, c; a capital is of the category PII. */
function response(letters: string): Evidence[] {
  return Array.from(letters, (letter, index) =>
    verdict(index, RISK[letter.toLowerCase()], "", letter === letter.toLowerCase() ? "Violent" : "PII"),
  );
}

/** A token with probabilities of Safe, Unsafe, Controversial, and of Violent, PII. */
function token(risk: number[], category = [0.8, 0.2]): Evidence {
  const top = risk.indexOf(Math.max(...risk));
  return { index: 0, risk: LABELS.responseRisk[top], probabilities: { risk, category } };
}

describe("what a response's verdicts come to", () => {
  const table: [string, string, PolicyData, string][] = [
    ["nothing harmful", "ssss", {}, "pass"],
    ["one token is not enough", "susus", {}, "pass"],
    ["two in a row are", "ssuus", {}, "block 3"],
    ["strict: controversial counts", "sccs", {}, "block 2"],
    ["strict: controversial, then unsafe", "scus", {}, "block 2"],
    ["loose: controversial does not", "sccscc", { reading: "loose" }, "pass"],
    ["loose: and is no half of a pair", "sucu", { reading: "loose" }, "pass"],
    ["debounce 1", "ssu", { debounce: 1 }, "block 2"],
    ["debounce 4", "uuusuuuu", { debounce: 4 }, "block 7"],
    [
      "debounce of the response goes before the general one",
      "uu",
      { debounce: 3, response: { debounce: 1 } },
      "block 0",
    ],
    ["an ignored category is safe", "UUuU", { categories: { PII: "ignore" } }, "pass"],
    ["and breaks a row", "uUu", { categories: { PII: "ignore" } }, "pass"],
    ["an observed category is noted", "sUUUs", { categories: { PII: "observe" } }, "observe 2"],
    ["once a row", "UUsUU", { categories: { PII: "observe" } }, "observe 1,4"],
    ["and does not block with another", "uUuU", { categories: { PII: "observe" } }, "observe 1"],
    ["blocking goes on after a note", "UUuu", { categories: { PII: "observe" } }, "block 3 after 1"],
    ["a general action", "uu", { action: "observe" }, "observe 1"],
    [
      "a category against the general action",
      "uuUU",
      { action: "ignore", categories: { PII: "block" } },
      "block 3",
    ],
    ["the response's own rules", "uu", { response: { action: "ignore" } }, "pass"],
    ["the prompt's rules are not the response's", "uu", { prompt: { action: "ignore" } }, "block 1"],
    [
      "a category's own entry goes before the general one",
      "UU",
      { categories: { PII: "ignore" }, response: { categories: { PII: "block" } } },
      "block 1",
    ],
  ];
  test.each(table)("%s: %s", (_, letters, data, expected) => {
    const { action, violation, observed } = ruleResponse(response(letters), policyOf(data));
    const notes = observed.map((finding) => finding.index).join(",");
    const block = violation && `block ${violation.index}${notes && ` after ${notes}`}`;
    expect(block ?? (notes ? `observe ${notes}` : "pass")).toBe(expected);
    expect(action).toBe(expected.split(" ")[0]);
  });

  test("a violation says what fired", () => {
    const { violation } = ruleResponse(response("sUU"), policyOf({ thresholds: { Unsafe: 0.7 } }));
    expect(violation).toMatchObject({
      part: "response",
      risk: "Unsafe",
      riskProbability: 0.9,
      category: "PII",
      categoryProbability: 0.8,
      index: 2,
      from: 1,
      rule: { reading: "strict", threshold: 0.7, debounce: 2 },
    });
  });

  const thresholds: [string, Evidence, PolicyData, boolean][] = [
    ["reached", token([0.1, 0.8, 0.1]), { thresholds: { Unsafe: 0.8 } }, true],
    ["missed, though most likely", token([0.1, 0.79, 0.11]), { thresholds: { Unsafe: 0.8 } }, false],
    ["reached, though not most likely", token([0.7, 0.3, 0]), { thresholds: { Unsafe: 0.3 } }, true],
    ["one label's is not the other's", token([0.1, 0.3, 0.6]), { thresholds: { Unsafe: 0.8 } }, true],
    [
      "of a loose reading do not bring controversial back",
      token([0, 0.1, 0.9]),
      { reading: "loose", thresholds: { Controversial: 0.1 } },
      false,
    ],
    [
      "of a category reached",
      token([0, 1, 0], [0.4, 0.6]),
      { categories: { PII: { threshold: 0.6 } } },
      true,
    ],
    [
      "of a category missed",
      token([0, 1, 0], [0.4, 0.6]),
      { categories: { PII: { threshold: 0.61 } } },
      false,
    ],
    ["of another category", token([0, 1, 0], [0.6, 0.4]), { categories: { PII: { threshold: 0.99 } } }, true],
    ["of all risks together reached", token([0.5, 0.25, 0.25]), { threshold: 0.5 }, true],
    ["of all risks together missed", token([0.5, 0.25, 0.25]), { threshold: 0.51 }, false],
    ["the worst risk that counts names it", token([0.2, 0.3, 0.5]), { thresholds: { Unsafe: 0.3 } }, true],
  ];
  test.each(thresholds)("thresholds: %s", (_, evidence, data, blocks) => {
    const ruling = ruleResponse([evidence], policyOf({ ...data, debounce: 1 }));
    expect(ruling.action).toBe(blocks ? "block" : "pass");
  });

  test("where two risks count, the worse is named", () => {
    const ruling = ruleResponse(
      [token([0.2, 0.3, 0.5])],
      policyOf({ debounce: 1, thresholds: { Unsafe: 0.3 } }),
    );
    expect(ruling.violation).toMatchObject({ risk: "Unsafe", riskProbability: 0.3 });
  });
});

describe("what a prompt's verdict comes to", () => {
  test.each<[string, PolicyData, string]>([
    ["Unsafe", {}, "block"],
    ["Controversial", {}, "block"],
    ["Controversial", { prompt: { reading: "loose" } }, "pass"],
    ["Unsafe", { prompt: { action: "observe" } }, "observe"],
    ["Unsafe", { debounce: 5 }, "block"],
    ["Safe", {}, "pass"],
  ])("%s with %j: %s", (risk, data, action) => {
    expect(rulePrompt(verdict(7, risk), policyOf(data)).action).toBe(action);
  });

  test("no verdict does not pass, unless the policy says so", () => {
    for (const none of [null, []]) {
      expect(() => rulePrompt(none, policyOf())).toThrow(
        expect.objectContaining({ name: "InputError", code: "PROMPT_UNJUDGED" }),
      );
      expect(rulePrompt(none, policyOf({ unjudged: "pass" })).action).toBe("pass");
    }
  });
});

/** One turn a letter: s, u, a for system, user, assistant, t for a standing one; in brackets one that is empty; a ! behind it is unsafe. */
function turns(text: string): TurnVerdict[] {
  const roles: Record<string, string> = { s: "system", u: "user", a: "assistant", t: "user" };
  return Array.from(text.matchAll(/(\()?([suat])\)?([!?])?/g), ([, bracket, letter, mark], index) => ({
    ...verdict(index, mark === "!" ? "Unsafe" : mark === "?" ? "Controversial" : "Safe"),
    role: roles[letter],
    empty: bracket !== undefined,
    turn: index,
    ...(letter === "t" && { standing: true }),
  }));
}

describe("which turns are ruled on", () => {
  const at = (text: string, scope: PromptScope) => turnsInScope(turns(text), scope).map(({ index }) => index);

  test.each<[string, string, number[]]>([
    ["the user's", "su", [1]],
    ["every one of the user's since the last answer", "suauu", [3, 4]],
    ["not what comes before the answer", "uau", [2]],
    ["not the system's between them", "usu", [0, 2]],
    ["the last of all where the user has none", "ss", [1]],
    ["what the system says when the user has spoken", "sus", [1, 2]],
    ["what comes after an answer, and the user's last one", "uas", [0, 2]],
    ["with an empty one of the user's what was said before it", "s(u)", [0, 1]],
    ["the user's own before the answer, if nobody said anything since", "ua(u)", [0, 2]],
    ["an empty one among others is no reason to look further", "s(u)u", [1, 2]],
    ["an answer alone, where nothing else is there", "a", [0]],
    ["an empty one alone", "(u)", [0]],
    ["a standing one, however long ago it was", "stuauau", [1, 6]],
    ["a standing one beside what the system says alone", "st", [0, 1]],
    ["a standing one beside what the system says before an empty one", "st(u)", [0, 1, 2]],
    ["a standing one alone", "t", [0]],
  ])("turn: %s (%s)", (_, text, expected) => {
    expect(at(text, "turn")).toEqual(expected);
  });

  test("conversation: all of them", () => {
    expect(at("su(a)us", "conversation")).toEqual([0, 1, 2, 3, 4]);
  });

  test("the worst decides, and what is to be observed is noted wherever it stands", () => {
    const ruling = (text: string, data: PolicyData = {}) => rulePrompt(turns(text), policyOf(data));
    expect(ruling("u!u").violation).toMatchObject({ part: "prompt", index: 0 });
    expect(ruling("u?u!u?").violation).toMatchObject({ index: 1, risk: "Unsafe" });
    expect(ruling("s!u").violation).toBeNull();
    expect(ruling("s!u", { prompt: { scope: "conversation" } }).violation).toMatchObject({ index: 0 });
    expect(ruling("s!").violation).toMatchObject({ index: 0 });
    expect(ruling("s!(u)").violation).toMatchObject({ index: 0 });
    expect(ruling("st!uau").violation).toMatchObject({ index: 1 });
    expect(ruling("u!u!", { action: "observe" })).toMatchObject({
      action: "observe",
      violation: null,
      observed: [{ index: 0 }, { index: 1 }],
    });
  });

  test("some turn always counts, and a wider scope never lets pass more", () => {
    const text = fc.string({
      unit: fc.constantFrom("s", "u", "a", "(u)", "(s)", "u!", "s!", "a!", "u?", "t", "t!"),
      minLength: 1,
    });
    fc.assert(
      fc.property(text, (all) => {
        expect(at(all, "turn").length).toBeGreaterThan(0);
        if (rulePrompt(turns(all), policyOf()).violation === null) return;
        expect(
          rulePrompt(turns(all), policyOf({ prompt: { scope: "conversation" } })).violation,
        ).not.toBeNull();
      }),
    );
  });
});

describe("for any response", () => {
  const letters = fc.string({ unit: fc.constantFrom("s", "u", "c", "U", "C"), maxLength: 40 });

  test("loose with the report's debounce is the report's loose reading", () => {
    fc.assert(
      fc.property(letters, (text) => {
        const { violation } = ruleResponse(response(text), policyOf({ reading: "loose" }));
        expect(violation?.index ?? null).toBe(decide(response(text) as never, "Safe").loose.flaggedAt);
      }),
    );
  });

  test("strict never lets pass what the report's strict reading flags", () => {
    fc.assert(
      fc.property(letters, (text) => {
        const { flaggedAt } = decide(response(text) as never, "Safe").strict;
        const index = ruleResponse(response(text), policyOf()).violation?.index;
        if (flaggedAt !== null) expect(index).toBeLessThanOrEqual(flaggedAt);
      }),
    );
  });

  test("a longer debounce, a higher threshold or a loose reading never flags earlier", () => {
    const probability = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(letters, fc.nat(4), probability, probability, (text, debounce, a, b) => {
        const at = (data: PolicyData) =>
          ruleResponse(response(text), policyOf(data)).violation?.index ?? Infinity;
        expect(at({ debounce: debounce + 2 })).toBeGreaterThanOrEqual(at({ debounce: debounce + 1 }));
        expect(at({ reading: "loose" })).toBeGreaterThanOrEqual(at({}));
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        expect(at({ thresholds: { Unsafe: high } })).toBeGreaterThanOrEqual(
          at({ thresholds: { Unsafe: low } }),
        );
      }),
    );
  });

  test("what comes later changes nothing of a violation", () => {
    fc.assert(
      fc.property(letters, letters, (text, more) => {
        const first = ruleResponse(response(text), policyOf()).violation;
        if (first) expect(ruleResponse(response(text + more), policyOf()).violation).toEqual(first);
      }),
    );
  });
});

test("what is left out of a policy has the stated default", () => {
  const { prompt, unjudged, attachments, failOpen } = resolvePolicy({}, LABELS);
  expect({ scope: prompt.scope, unjudged, attachments, failOpen }).toEqual({
    scope: "turn",
    unjudged: "refuse",
    attachments: "block",
    failOpen: false,
  });
  expect(resolvePolicy(DEFAULT_POLICY, LABELS)).toEqual(resolvePolicy({}, LABELS));
  expect(policyOf({ prompt: { scope: "conversation" }, unjudged: "pass" })).toMatchObject({
    prompt: { scope: "conversation" },
    unjudged: "pass",
  });
});

test("what answers in the model's place goes by category, then by the default", () => {
  const of = (replacement: PolicyData["replacement"], category: string) =>
    replacementOf(policyOf({ replacement }), category);
  expect(of(undefined, "PII")).toBeNull();
  expect(of("Sorry.", "PII")).toBe("Sorry.");
  expect(of({ PII: "Private.", default: "Sorry." }, "PII")).toBe("Private.");
  expect(of({ PII: "Private.", default: "Sorry." }, "Violent")).toBe("Sorry.");
  expect(of({ PII: "Private." }, "Violent")).toBeNull();
  expect(of("Sorry.", "constructor")).toBe("Sorry.");
  expect(of({ PII: "Private." }, "constructor")).toBeNull();
});

describe("what is no policy", () => {
  test.each<[unknown, RegExp]>([
    [[], /the policy is \[\]/],
    ["strict", /the policy is "strict"; it must be an object/],
    [{ strict: true }, /the policy has no "strict". It takes: reading, action/],
    [{ reading: "harsh" }, /reading is "harsh"; it must be one of "strict", "loose"/],
    [{ debounce: 0 }, /debounce is 0/],
    [{ tools: "maybe" }, /tools is "maybe"; it must be one of "judge", "pass", "refuse"/],
    [{ toolResults: "refuse" }, /toolResults is "refuse"/],
    [{ replacement: "" }, /replacement\["default"\] is ""; it must be a text/],
    [{ replacement: { Violence: "No." } }, /replacement has no "Violence". It takes: default, Violent/],
    [{ replacement: 5 }, /replacement is 5; it must be an object/],
    [{ debounce: 1.5 }, /debounce is 1.5; it must be a whole number/],
    [{ response: { debounce: "2" } }, /response.debounce is "2"/],
    [{ prompt: { debounce: 2 } }, /prompt has no "debounce"/],
    [{ thresholds: { Unsafe: 1.1 } }, /thresholds\["Unsafe"\] is 1.1; it must be a probability/],
    [{ thresholds: { Unsafe: Number.NaN } }, /thresholds\["Unsafe"\]/],
    [{ thresholds: { Safe: 0.5 } }, /thresholds has no "Safe". It takes: Unsafe, Controversial/],
    [{ thresholds: { unsafe: 0.5 } }, /thresholds has no "unsafe"/],
    [
      { categories: { Violence: "block" } },
      /categories has no "Violence". It takes: Violent, PII, Jailbreak/,
    ],
    [{ response: { categories: { Jailbreak: "block" } } }, /response.categories has no "Jailbreak"/],
    [{ categories: { PII: "allow" } }, /categories\["PII"\] is "allow"/],
    [{ categories: { PII: { threshold: -1 } } }, /categories\["PII"\].threshold is -1/],
    [{ categories: { PII: { treshold: 0.5 } } }, /has no "treshold"/],
    [{ categories: { PII: null } }, /categories\["PII"\] is null/],
    [{ failOpen: "yes" }, /failOpen is "yes"; it must be true or false/],
    [{ attachments: "observe" }, /attachments is "observe"/],
    [{ prompt: { scope: "all" } }, /prompt.scope is "all"; it must be one of "turn", "conversation"/],
    [{ scope: "turn" }, /the policy has no "scope"/],
    [{ response: { scope: "turn" } }, /response has no "scope"/],
    [{ unjudged: "block" }, /unjudged is "block"; it must be one of "refuse", "pass"/],
    [JSON.parse('{"__proto__": {"action": "ignore"}}'), /has no "__proto__"/],
  ])("%j", (data, message) => {
    expect(() => resolvePolicy(data, LABELS)).toThrow(InputError);
    expect(() => resolvePolicy(data, LABELS)).toThrow(message);
  });

  test("a list nested without end is refused like any other, in few words", () => {
    const deep = JSON.parse("[".repeat(1e5) + "]".repeat(1e5));
    for (const data of [
      deep,
      { prompt: deep },
      { reading: "x".repeat(1e6) },
      { categories: { PII: deep } },
    ]) {
      const error = (() => {
        try {
          return resolvePolicy(data, LABELS);
        } catch (caught) {
          return caught;
        }
      })();
      expect(error).toMatchObject({ name: "InputError", code: "POLICY_INVALID" });
      expect((error as Error).message.length).toBeLessThan(400);
    }
  });

  test("a byte order mark before the JSON is no part of it", () => {
    expect(parsePolicy('\ufeff{"reading": "loose"}', "policy.json")).toEqual({ reading: "loose" });
  });

  test("a file that is not JSON is named", () => {
    expect(() => parsePolicy("{reading: strict}", "policy.json")).toThrow(/policy.json is not JSON/);
  });

  test("a category may be named like a property of every object", () => {
    const labels = { ...LABELS, responseCategory: ["constructor", "toString"] };
    const { response } = resolvePolicy({}, labels);
    expect(response.categories).toEqual([
      { label: "constructor", action: "block", threshold: 0 },
      { label: "toString", action: "block", threshold: 0 },
    ]);
  });
});
