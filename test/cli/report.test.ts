import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { createReport } from "../../src/cli/report.js";
import { createTerminal } from "../../src/cli/terminal.js";
import type { GuardError } from "../../src/errors.js";
import { decide } from "../../src/moderation/decision.js";
import { ruleResponse } from "../../src/moderation/ruling.js";
import { policyOf, verdict } from "../gate/scripted.js";

const finding = ruleResponse([verdict(0, "Unsafe"), verdict(1, "Unsafe")], policyOf()).violation!;

test("a mark that comes after its letter is shown, though the token with both is one", async () => {
  const out = new PassThrough();
  const report = createReport("text", out, createTerminal(out as unknown as NodeJS.WriteStream));
  report.tokens([verdict(0, "Safe", "caf"), verdict(1, "Safe", "e")]);
  report.tokens([verdict(1, "Safe", "\u00e9"), verdict(2, "Safe", " au lait")]);
  report.tokens([verdict(2, "Safe", " au lait!")]);
  out.end();
  expect((await text(out)).normalize("NFC")).toBe("caf\u00e9 au lait!");
});

const HIDING = "Hi \x1b]0;title\x07 there \x9b2J\b\rand \u202ereversed";

test("what would steer a terminal is shown as escapes, tokens and labels alike", async () => {
  const out = new PassThrough();
  const report = createReport("text", out, createTerminal(out as unknown as NodeJS.WriteStream));
  report.tokens([verdict(0, "Safe", HIDING)]);
  report.violation({ ...finding, category: "\x1b[2JViolent" });
  out.end();
  const shown = await text(out);
  expect(shown).toContain("Hi \\x1b]0;title\\x07 there \\x9b2J\\x08\\x0dand \\u202ereversed");
  expect(shown).toContain("\\x1b[2JViolent");
  expect(shown).not.toMatch(/[^\P{Cc}\n]/u);
});

describe("as a filter", () => {
  async function filtered(...texts: string[]): Promise<{ shown: string; code: string | null }> {
    const out = new PassThrough();
    const report = createReport("filter", out, createTerminal(out as unknown as NodeJS.WriteStream));
    let code: string | null = null;
    try {
      for (const piece of texts) report.clear([], piece);
      report.end(decide([], "Safe"), { p50: 0, p99: 0 }, { promptTokens: 9, reusedTokens: 0 });
    } catch (error) {
      code = (error as GuardError).code;
    }
    out.end();
    return { shown: (await text(out)).split("\n\nresponse")[0], code };
  }

  test("text passes byte for byte, line ends that are cut in two included", async () => {
    const whole = "Grüße, cafe\u0301 \u{1f469}\u200d\u{1f373}\r\n\tso\u200b \u0645\u200c";
    expect(await filtered(whole)).toEqual({ shown: whole, code: null });
    expect(await filtered("a\r", "\nb")).toEqual({ shown: "a\r\nb", code: null });
  });

  test.each(["\b", "\x1b[2J", "\x7f", "\x9b", "\0", "\r", "\u202e"])(
    "what might show another text is refused, and what came before it passes: %j",
    async (character) => {
      expect(await filtered("fine", `so ${character}gone`)).toEqual({
        shown: "fineso ",
        code: "CONTROL_CHARACTER",
      });
      expect(await filtered("fine", character)).toEqual({ shown: "fine", code: "CONTROL_CHARACTER" });
    },
  );
});
