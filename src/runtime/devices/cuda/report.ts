import type { CudaDriver } from "./driver.js";
import type { CudaStatus } from "./files.js";

/** What the driver is and shows, on one line. */
export function driverText({ version, release, devices, problem }: CudaDriver): string {
  if (version === null) return problem ?? "none";
  const shown = devices.map(({ index, name, capability, totalBytes, freeBytes }) => {
    const free = freeBytes === null ? "" : `, ${gibibytes(freeBytes)} free`;
    return `cuda:${index} ${name} (capability ${capability}, ${gibibytes(totalBytes)}${free})`;
  });
  return [`${release ?? ""} serves CUDA ${version}`.trim(), ...shown].join("; ");
}

/** What to do with this state of things, in one sentence. */
export function nextStep({ usable, problem }: CudaStatus): string {
  return usable ? "CUDA can be used. Next: `qwen3guard doctor`." : `CUDA cannot be used. ${problem}`;
}

/** The state on one line, for a list of what a machine has. */
export function cudaText(status: CudaStatus): string {
  return status.usable
    ? `${driverText(status.driver)}; provider in ${status.libraryDir}`
    : `not usable. ${status.problem}`;
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
