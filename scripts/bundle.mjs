// Bundles the package's entries into dist/, where what runs together lies in few files: a command that judges would load
// two hundred, which takes as long as all of Node. The modules themselves are in build/, for tests.
import { existsSync, readdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { build } from "esbuild";

const { metafile } = await build({
  entryPoints: [
    ...["src/index.ts", "src/adapters/ai-sdk.ts", "src/cli/main.ts"],
    // `GuardProxy` and `listen`, for who drives the proxy from a script.
    ...["src/gateway/proxy.ts", "src/gateway/server.ts"],
  ],
  outdir: "dist",
  // Two folders below the package, as all modules are that look for its files.
  chunkNames: "code/[name]-[hash]",
  bundle: true,
  splitting: true,
  packages: "external",
  format: "esm",
  platform: "node",
  target: "node20.19",
  charset: "utf8",
  sourcemap: true,
  metafile: true,
  logLevel: "warning",
});

const written = new Set(Object.keys(metafile.outputs));
for (const [file, { inputs }] of Object.entries(metafile.outputs)) {
  const lost = Object.keys(inputs).filter((input) => input.startsWith("src/package/"));
  if (lost.length > 0 && resolve(dirname(file), "../..") !== process.cwd())
    throw new Error(`${lost} would not find the package's files from ${file}.`);
}

// What an earlier build left, and would be published along: code that this one did not write, types of no module. Pages are
// build-ui.mjs', which comes next.
for (const name of readdirSync("dist", { recursive: true })) {
  const file = join("dist", name);
  const kept = written.has(file.replaceAll("\\", "/"));
  const module = /^(.*)\.d\.ts$/.exec(name)?.[1];
  const left = module === undefined ? /\.js(\.map)?$/.test(name) && !kept : !existsSync(`src/${module}.ts`);
  if (left) rmSync(file);
}
