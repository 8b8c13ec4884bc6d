import { readFileSync } from "node:fs";
import { InputError } from "../errors.js";

const NAME = "qwen3guard-stream";

/** Name and version of this package. */
export const PACKAGE = readManifest();

/** Address of a file of this package: it lies two folders above this module, whether that is a source, built or bundled. */
export function packageFile(path: string): URL {
  return new URL(`../../${path}`, import.meta.url);
}

/**
 * Whoever looks for the package's files imports this, and the entries do first: what comes after it would fail of native
 * files that a bundler leaves behind.
 *
 * @throws {InputError} BUNDLED where this code does not lie in its package
 */
function readManifest(): { name: string; version: string } {
  const manifest = manifestAbove(import.meta.url);
  if (manifest?.name === NAME) return manifest;
  throw new InputError(
    "BUNDLED",
    `${NAME} was bundled into another file, away from its native libraries and its model. Mark it external: esbuild ` +
      `--external:${NAME}, serverExternalPackages of Next.js, build.rollupOptions.external of Vite.`,
  );
}

function manifestAbove(url: string | undefined): { name: string; version: string } | null {
  try {
    return JSON.parse(readFileSync(new URL("../../package.json", url), "utf8"));
  } catch {
    return null;
  }
}
