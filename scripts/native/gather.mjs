// Puts ONNX Runtime's libraries into native/, out of onnxruntime-node, so that they come with the package. As a dependency
// onnxruntime-node would bring a script that downloads CUDA's files whenever it is installed: without internet it fails, and
// package managers that run no scripts unasked refuse or warn.
import { copyFileSync, existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const LIBRARIES = [
  "linux/x64/libonnxruntime.so.1",
  "linux/arm64/libonnxruntime.so.1",
  "darwin/arm64/libonnxruntime.1.dylib",
  "win32/x64/onnxruntime.dll",
  "win32/arm64/onnxruntime.dll",
];
const TEXTS = ["LICENSE", "ThirdPartyNotices.txt"];

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "..", "..", "native");
const done = join(target, "version.json");
const manifest = createRequire(import.meta.url).resolve("onnxruntime-node/package.json");
const version = JSON.stringify({ onnxruntime: JSON.parse(readFileSync(manifest, "utf8")).version });

// What is there is left alone: others may have it open.
if (!existsSync(done) || readFileSync(done, "utf8") !== version) {
  rmSync(target, { recursive: true, force: true });
  for (const library of LIBRARIES) {
    put(join(dirname(manifest), "bin", "napi-v6", library), join(target, library));
  }
  for (const text of TEXTS) put(join(here, text), join(target, text));
  writeFileSync(done, version);
}

/** A hard link, where the file system has them: the libraries take 170 MB. */
function put(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}
