import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { sourcePlace } from "../../../src/gateway/record/source-place.js";
import { temporaryFolder } from "../../support/model.js";

const SOURCE = `interface Nothing {}

export function fail(words: string): never {
  throw new TypeError(words);
}
`;

async function bundled(sourcemap: boolean) {
  const folder = await temporaryFolder();
  await writeFile(join(folder, "failing.ts"), SOURCE);
  const outfile = join(folder, "chunk-ABC.js");
  await build({ entryPoints: [join(folder, "failing.ts")], outfile, bundle: true, format: "esm", sourcemap });
  const { fail } = await import(/* @vite-ignore */ pathToFileURL(outfile).href);
  return (words: string): Error => {
    try {
      return fail(words);
    } catch (error) {
      return error as Error;
    }
  };
}

test("an error of a bundled file is placed in its source, whatever its message looks like", async () => {
  const fail = await bundled(true);
  expect(sourcePlace(fail("no"))).toBe("failing.ts:4");
  expect(sourcePlace(fail("a secret\n    at secret (secret.js:1:1)"))).toBe("failing.ts:4");
});

test("without a map the file that ran is named, and without a stack nothing", async () => {
  const fail = await bundled(false);
  expect(sourcePlace(fail("no"))).toMatch(/^chunk-ABC\.js:\d+$/);
  expect(sourcePlace(Object.assign(new Error("no"), { stack: undefined }))).toBeNull();
});
