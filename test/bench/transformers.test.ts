import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { TransformersJs } from "../../bench/generator/transformers.js";
import { writeTinyTransformersModel } from "./tiny-transformers-model.js";

const dir = await mkdtemp(join(tmpdir(), "transformers-"));
afterAll(() => rm(dir, { recursive: true }));

it("streams what a model in transformers.js writes, and stops it", async () => {
  await writeTinyTransformersModel(join(dir, "tiny"));
  const generator = await TransformersJs.load(join(dir, "tiny"), "fp32", "ab cd ef");
  const read = async (tokens: number, stopAfter = Number.POSITIVE_INFINITY) => {
    const controller = new AbortController();
    const texts: string[] = [];
    for await (const text of generator.respond(tokens, controller.signal)) {
      texts.push(text);
      if (texts.length === stopAfter) controller.abort();
    }
    return texts;
  };
  const texts = await read(20);
  expect(texts.length).toBeGreaterThan(5);
  expect(texts.join("")).toMatch(/^[ a-z]+$/);
  expect(await read(20)).toEqual(texts);
  expect((await read(1000, 3)).length).toBeLessThan(50);
  await generator.close();
});
