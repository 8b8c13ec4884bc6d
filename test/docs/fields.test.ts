import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { fieldsPage } from "../../scripts/docs/fields.js";
import { ENDPOINTS } from "../../src/gateway/endpoints.js";
import { POLICY_FIELDS } from "../../src/moderation/policy.js";

const read = (name: string) =>
  readFile(fileURLToPath(new URL(`../../docs/${name}`, import.meta.url)), "utf8");
const page = fieldsPage();

test("docs/fields.md says what the tables of requests and answers say; npm run docs writes it anew", async () => {
  expect(await read("fields.md")).toBe(page);
});

test.each(Object.keys(ENDPOINTS))("it has the fields of requests to %s and of their answers", (endpoint) => {
  const [asked, answered] = page.split("## Of an answer");
  expect(asked).toMatch(new RegExp(`^### Body of .*${endpoint}\``, "m"));
  expect(answered).toMatch(new RegExp(`^### .*${endpoint}\``, "m"));
});

test.each([...Object.keys(ENDPOINTS), "/moderations"])(
  "protect.md says what becomes of %s",
  async (endpoint) => {
    const paths = (await read("protect.md")).split("| path | what happens |")[1].split("\n\n")[0];
    expect(paths).toContain(`${endpoint}\``);
  },
);

test.each(POLICY_FIELDS)("policies.md has a row for %s", async (field) => {
  const table = (await read("policies.md")).split("| field | means |")[1].split("\n\n")[0];
  expect(table).toMatch(new RegExp(`^\\|[^|]*\`${field}[\`.]`, "m"));
});
