import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { apiPage } from "../../scripts/docs/api.js";
import * as aiSdk from "../../src/adapters/ai-sdk.js";
import * as main from "../../src/index.js";

const PAGE = fileURLToPath(new URL("../../docs/api.md", import.meta.url));

test("docs/api.md says what the docstrings say; npm run docs writes it anew", async () => {
  expect(await readFile(PAGE, "utf8")).toBe(apiPage());
});

test("it has a section for each value that is exported", async () => {
  const page = await readFile(PAGE, "utf8");
  for (const name of [...Object.keys(main), ...Object.keys(aiSdk)])
    expect(page).toContain(`\n#### ${name}\n`);
});
