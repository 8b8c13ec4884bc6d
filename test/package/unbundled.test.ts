import { execFile } from "node:child_process";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { beforeAll, describe, expect, test } from "vitest";
import { temporaryFolder } from "../support/model.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

let app: string;
beforeAll(async () => {
  app = await temporaryFolder();
  await mkdir(join(app, "node_modules"));
  await symlink(ROOT, join(app, "node_modules", "qwen3guard-stream"), "junction");
  await writeFile(join(app, "package.json"), '{"name": "app"}');
});

describe.each(["esm", "cjs"] as const)("esbuild, %s", (format) => {
  describe.each(["qwen3guard-stream", "qwen3guard-stream/ai-sdk"])("%s", (entry) => {
    async function run(external: string[]): Promise<string> {
      const input = join(app, "input.mjs");
      const output = join(app, `output.${format === "esm" ? "mjs" : "cjs"}`);
      await writeFile(input, `import * as all from "${entry}"; console.log(Object.keys(all).join(" "));`);
      const settings = { bundle: true, platform: "node", logLevel: "silent" } as const;
      await build({ ...settings, format, external, entryPoints: [input], outfile: output });
      const { stdout } = await promisify(execFile)(process.execPath, [output]);
      return stdout;
    }

    test("bundled along, it says at once what to do", async () => {
      await expect(run([])).rejects.toThrow("Mark it external: esbuild --external:qwen3guard-stream");
    });

    test("marked external, it works", async () => {
      expect(await run(["qwen3guard-stream"])).toMatch(/loadGuard|guardMiddleware/);
    });
  });
});
