import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

/** A page's script or style sheet, as `npm run build` bundles it. */
export function asset(name: "playground.js" | "playground.css" | "report.js" | "report.css"): string {
  // The same place for the sources, which tests run, and for what is built from them.
  return readFileSync(new URL(`../../dist/ui/${name}`, import.meta.url), "utf8").trimEnd();
}

/** The content security policy of a page with one inline script: nothing else runs, nothing is fetched but from itself. */
export function contentSecurityPolicy(script: string, connect: "'self'" | "'none'"): string {
  const hash = createHash("sha256").update(script).digest("base64");
  return (
    `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'; connect-src ${connect}; ` +
    "img-src data:; base-uri 'none'; form-action 'none'"
  );
}
