/**
 * Puts the CUDA provider, and the libraries of the NVIDIA packages named, under QWEN3GUARD_CUDA.
 *
 *   npx tsx scripts/gpu/fetch-provider.ts [nvidia-curand …]
 */
import { ProgressBars } from "../../src/cli/progress-bars.js";
import { createTerminal } from "../../src/cli/terminal.js";
import { installCuda, missingWheels } from "../../src/runtime/devices/cuda/install/install.js";
import { NVIDIA_PACKAGES } from "../../src/runtime/devices/cuda/packages.js";

const named = process.argv.slice(2);
const known = NVIDIA_PACKAGES.map(({ project }) => project);
const unknown = named.filter((project) => !known.includes(project));
if (unknown.length > 0) {
  console.error(`No such package: ${unknown.join(", ")}. Choose among ${known.join(", ")}.`);
  process.exit(2);
}
const wheels = await missingWheels();
const progress = new ProgressBars(createTerminal(process.stderr));
await installCuda(
  wheels.filter(({ project }) => project === "onnxruntime-gpu" || named.includes(project)),
  { onProgress: (file, done, total) => progress.update(file, "bytes", done, total) },
).finally(() => progress.stop());
