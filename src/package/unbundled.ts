import { readFileSync } from "node:fs";
import { InputError } from "../errors.js";

const NAME = "qwen3guard-stream";

/** Whether this code lies in its package, beside the libraries, models and packages that it looks for. */
function isAtHome(url: string | undefined): boolean {
  try {
    return JSON.parse(readFileSync(new URL("../../package.json", url), "utf8")).name === NAME;
  } catch {
    return false;
  }
}

// The first import of each entry: what comes after it would fail of native files that a bundler leaves behind.
if (!isAtHome(import.meta.url)) {
  throw new InputError(
    "BUNDLED",
    `${NAME} was bundled into another file, away from its native libraries and its model. Mark it external: esbuild ` +
      `--external:${NAME}, serverExternalPackages of Next.js, build.rollupOptions.external of Vite.`,
  );
}
