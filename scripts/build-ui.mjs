// Bundles the pages' scripts and styles into dist/ui, where the package reads them from.
import { build } from "esbuild";

await build({
  entryPoints: { playground: "src/ui/playground/main.tsx", report: "src/ui/report/main.tsx" },
  outdir: "dist/ui",
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "inline",
  logLevel: "warning",
});
