import { Command } from "commander";
import type { Check } from "../machine-checks.js";
import { addModelOptions, type ModelOptions } from "../model-options.js";
import { createTerminal, visibleLine } from "../terminal.js";

export function doctorCommand(): Command {
  return addModelOptions(new Command("doctor"))
    .summary("show what this machine has, and whether the guard runs")
    .description(
      "Shows Node, processor, memory, ONNX Runtime, GPUs and model, and judges a sentence to see that it works.",
    )
    .option("--json", "one JSON object instead of text")
    .addHelpText(
      "after",
      `
Examples:
  $ qwen3guard doctor
  $ qwen3guard doctor --model ./guard --json
  $ qwen3guard doctor --model Qwen/Qwen3Guard-Stream-0.6B --device cuda`,
    )
    .action(async ({ json, ...options }: ModelOptions & { json?: boolean }) => {
      const { checkMachine } = await import("../machine-checks.js");
      const checks = await checkMachine(options);
      if (json)
        process.stdout.write(
          `${JSON.stringify(Object.fromEntries(checks.map(({ name, ...rest }) => [name, rest])))}\n`,
        );
      else print(checks);
      if (checks.some(({ ok }) => !ok)) process.exitCode = 1;
    });
}

function print(checks: Check[]): void {
  const { colors } = createTerminal(process.stdout);
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const { name, ok, detail } of checks) {
    const mark = ok ? colors.green("✓") : colors.red("✗");
    process.stdout.write(`${mark} ${name.padEnd(width)}  ${visibleLine(detail)}\n`);
  }
}
