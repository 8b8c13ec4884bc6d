import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { createReport } from "../../src/cli/report.js";
import { createTerminal } from "../../src/cli/terminal.js";
import { verdict } from "../streaming/scripted.js";

test("a mark that comes after its letter is shown, though the token with both is one", async () => {
  const out = new PassThrough();
  const report = createReport("text", out, createTerminal(out as unknown as NodeJS.WriteStream));
  report.tokens([verdict(0, "Safe", "caf"), verdict(1, "Safe", "e")]);
  report.tokens([verdict(1, "Safe", "\u00e9"), verdict(2, "Safe", " au lait")]);
  report.tokens([verdict(2, "Safe", " au lait!")]);
  out.end();
  expect((await text(out)).normalize("NFC")).toBe("caf\u00e9 au lait!");
});
