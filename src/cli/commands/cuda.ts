import { Command } from "commander";
import type { WheelSource } from "../../runtime/devices/cuda/install/install.js";
import { interruptSignal } from "../interrupt.js";
import { ProgressBars } from "../progress-bars.js";
import { createTerminal, visible, visibleLine } from "../terminal.js";

export function cudaCommand(): Command {
  return new Command("cuda")
    .summary("install or look at what CUDA needs")
    .description("Installs the CUDA provider of ONNX Runtime, or shows what of it is there. Linux x64 only.")
    .addCommand(installCommand())
    .addCommand(statusCommand());
}

function installCommand(): Command {
  return new Command("install")
    .summary("fetch the CUDA provider and the NVIDIA libraries that are missing")
    .description(
      "Fetches the provider that matches the package's ONNX Runtime, and those of NVIDIA's libraries that this " +
        "machine lacks, from the Python package index into a folder of the user; Python is not needed. Every file is " +
        "checked by its SHA-256. An interrupted installation continues when the command is run again.",
    )
    .option("--from <folder>", "take the wheels from this folder, ask no network")
    .addHelpText(
      "after",
      `
Examples:
  $ qwen3guard cuda install
  $ qwen3guard cuda install --from ./wheels

Environment:
  QWEN3GUARD_CUDA   where the files go (default: "cuda" in the user's cache folder of qwen3guard)
  PIP_INDEX_URL     another package index or a mirror (default: https://pypi.org/simple)`,
    )
    .action(async ({ from }: { from?: string }) => {
      const [{ installCuda, missingWheels }, { cudaFolder, inspectCuda }, { nextStep }] = await Promise.all([
        import("../../runtime/devices/cuda/install/install.js"),
        import("../../runtime/devices/cuda/files.js"),
        import("../../runtime/devices/cuda/report.js"),
      ]);
      const signal = interruptSignal();
      const wheels = await missingWheels(from, signal);
      announce(wheels, from, cudaFolder());
      const progress = new ProgressBars(createTerminal(process.stderr));
      await installCuda(wheels, {
        onProgress: (file, done, total) => progress.update(file, "bytes", done, total),
        signal,
      }).finally(() => progress.stop());
      const status = inspectCuda();
      process.stdout.write(`${visible(`Installed in ${status.libraryDir}.\n${nextStep(status)}`)}\n`);
    });
}

function announce(wheels: WheelSource[], from: string | undefined, into: string): void {
  const total = wheels.reduce((sum, { size }) => sum + size, 0);
  for (const { name, size, libraries } of wheels) {
    process.stderr.write(
      `${megabytes(size).padStart(9)}  ${visibleLine(`${name}: ${libraries.join(", ")}`)}\n`,
    );
  }
  const source = from ?? "the package index";
  if (wheels.length > 0) {
    process.stderr.write(
      `${megabytes(total).padStart(9)}  in all, from ${visibleLine(`${source}, into ${into}`)}\n`,
    );
  } else process.stderr.write("Nothing to fetch.\n");
}

function statusCommand(): Command {
  return new Command("status")
    .summary("show the driver, each library found or missing, and what to run next")
    .description(
      "Shows the NVIDIA driver, each library found or missing, and what to run next. Exit code 0 if CUDA can be " +
        "used, 1 if not.",
    )
    .option("--json", "one JSON object instead of text")
    .action(async ({ json }: { json?: boolean }) => {
      const [{ inspectCuda }, { driverText, nextStep }] = await Promise.all([
        import("../../runtime/devices/cuda/files.js"),
        import("../../runtime/devices/cuda/report.js"),
      ]);
      const status = inspectCuda();
      if (json) process.stdout.write(`${JSON.stringify(status)}\n`);
      else {
        const { colors } = createTerminal(process.stdout);
        const rows = [
          {
            name: "NVIDIA driver",
            found: status.driver.devices.length > 0,
            detail: driverText(status.driver),
          },
          ...status.libraries.map(({ name, path }) => ({
            name,
            found: path !== null,
            detail: path ?? "missing",
          })),
        ];
        const width = Math.max(...rows.map(({ name }) => name.length));
        for (const { name, found, detail } of rows) {
          const mark = found ? colors.green("✓") : colors.red("✗");
          process.stdout.write(`${mark} ${name.padEnd(width)}  ${visibleLine(detail)}\n`);
        }
        process.stdout.write(`${visible(nextStep(status))}\n`);
      }
      if (!status.usable) process.exitCode = 1;
    });
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
