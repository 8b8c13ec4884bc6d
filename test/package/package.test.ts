import { readdir, readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { MODEL_CACHE } from "../support/model.js";
import { built, PACKAGE, runProgram } from "../support/program.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

async function readJson<T>(name: string): Promise<T> {
  return JSON.parse(await readFile(join(ROOT, name), "utf8"));
}

interface Manifest {
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
  optionalDependencies: Record<string, string>;
  peerDependencies: Record<string, string>;
}
interface Lock {
  packages: Record<string, { dev?: boolean; hasInstallScript?: boolean }>;
}

test("nothing that a user installs runs a script", async () => {
  const { packages } = await readJson<Lock>("package-lock.json");
  const running = Object.entries(packages).filter(
    ([, { dev, hasInstallScript }]) => hasInstallScript && !dev,
  );
  expect(running.map(([name]) => name)).toEqual([]);
  const { scripts } = await readJson<Manifest>("package.json");
  // npm warns of "prepare" too, where it installs a tarball.
  for (const name of ["preinstall", "install", "postinstall", "prepare"])
    expect(scripts).not.toHaveProperty(name);
});

test("npm 10 does not know of the script with which onnxruntime-node would download CUDA's files", async () => {
  const { packages } = await readJson<Lock>("package-lock.json");
  expect(packages["node_modules/onnxruntime-node"]).toBeDefined();
  expect(packages["node_modules/onnxruntime-node"]).not.toHaveProperty("hasInstallScript");
});

/** What drives the proxy from a script. */
const PROXY = ["gateway/proxy.js", "gateway/server.js"];

test("a script can drive the proxy by two of the package's files, with the guard of its entry", async () => {
  const [{ GuardProxy }, { listen }] = await Promise.all(
    PROXY.map((file) => import(new URL(file, PACKAGE).href)),
  );
  const { loadGuard } = await import(PACKAGE);
  const guard = await loadGuard(undefined, { cacheDir: MODEL_CACHE, maxStreams: 1, maxTokens: 256 });
  const server = await listen(new GuardProxy(guard, { upstream: "http://127.0.0.1:9" }), 0, "127.0.0.1");
  expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  await server.close(0);
  await guard.close();
});

test("types and code name no package that a user has not", async () => {
  const { dependencies, optionalDependencies, peerDependencies } = await readJson<Manifest>("package.json");
  const known = [dependencies, optionalDependencies, peerDependencies].flatMap(Object.keys);
  const IMPORT = /^(?:import|export) [\w\s{},*$]*from "([^"]+)"|^import "([^"]+)"|import\("([^"]+)"\)/gm;
  const seen = new Set<string>();
  const strangers = new Set<string>();
  async function follow(file: string): Promise<void> {
    if (seen.has(file)) return;
    seen.add(file);
    for (const [, ...names] of (await readFile(file, "utf8")).matchAll(IMPORT)) {
      const name = names.find(Boolean) as string;
      const typed = file.endsWith(".d.ts");
      if (name.startsWith(".")) {
        await follow(resolve(dirname(file), typed ? name.replace(/\.js$/, ".d.ts") : name));
      } else if (
        !name.startsWith("node:") &&
        !known.some((own) => name === own || name.startsWith(`${own}/`))
      ) {
        strangers.add(`${name} in ${file}`);
      }
    }
  }
  const ENTRIES = [
    "index.d.ts",
    "adapters/ai-sdk.d.ts",
    "index.js",
    "adapters/ai-sdk.js",
    "cli/main.js",
    ...PROXY,
  ];
  for (const entry of ENTRIES) await follow(join(ROOT, "dist", entry));
  expect([...strangers]).toEqual([]);
  expect(seen.size).toBeGreaterThan(100);
});

test("a class is in one of the package's files, whichever entry it is loaded by: an error is told by it everywhere", async () => {
  const DIST = join(ROOT, "dist");
  const files = (await readdir(DIST, { recursive: true })).filter((name) => /^(?!ui\W).*\.js$/.test(name));
  const classes: string[] = [];
  for (const file of files) {
    let module = "";
    for (const line of (await readFile(join(DIST, file), "utf8")).split("\n")) {
      module = /^\/\/ (src\/\S+\.ts)$/.exec(line)?.[1] ?? module;
      const [, name] = /^(?:var|let|const) (\w+) = class|^class (\w+)/.exec(line) ?? [];
      if (name) classes.push(`${name} of ${module}`);
    }
  }
  expect(classes).toContain("GuardError of src/errors.ts");
  expect(classes.length).toBeGreaterThan(100);
  expect(classes.filter((name, at) => classes.indexOf(name) !== at)).toEqual([]);
});

test("a platform that native functions cannot be called on is named at import", async () => {
  const program = `
    Object.defineProperty(process, "arch", { value: "mips" });
    await import(${JSON.stringify(PACKAGE)}).catch(({ code, message }) => console.log(code, message));
  `;
  expect(await runProgram(program)).toMatch(
    /^FFI_NOT_FOUND @koromix\/koffi-\w+-mips .*Linux \(x64, arm64\)/s,
  );
});

test("a platform that ONNX Runtime is not there for is named", async () => {
  const program = `
    const { findLibrary } = await import(${JSON.stringify(built("runtime/library.js"))});
    Object.defineProperty(process, "arch", { value: "mips" });
    try { findLibrary(); } catch ({ code, message }) { console.log(code, message); }
  `;
  expect(await runProgram(program)).toMatch(/^ORT_NOT_FOUND There is no ONNX Runtime for \w+-mips/);
});

test.runIf(process.platform === "linux")("a Linux without glibc is told what to do", async () => {
  const program = `
    const { loadLibrary } = await import(${JSON.stringify(built("runtime/library.js"))});
    process.report.getReport = () => ({ header: {} });
    try { loadLibrary("/nowhere.so"); } catch ({ code, message }) { console.log(code, message); }
  `;
  expect(await runProgram(program)).toMatch(/^LIBRARY_NOT_LOADED .*musl in place of glibc.*node:22-slim/s);
});
