import { Command, CommanderError } from "commander";
import { GuardError } from "../errors.js";
import { PACKAGE } from "../package/package.js";
import { classifyCommand } from "./commands/classify.js";
import { cudaCommand } from "./commands/cuda.js";
import { doctorCommand } from "./commands/doctor.js";
import { evalCommand } from "./commands/eval.js";
import { exportCommand } from "./commands/export.js";
import { playgroundCommand } from "./commands/playground.js";
import { proxyCommand } from "./commands/proxy.js";
import { pullCommand } from "./commands/pull.js";
import { scanCommand } from "./commands/scan.js";
import { scoreCommand } from "./commands/score.js";
import { serveCommand } from "./commands/serve.js";
import { isInterrupted } from "./interrupt.js";
import { createTerminal, visible, visibleLine } from "./terminal.js";

const USAGE = 2;
const FAILURE = 1;

/** Runs one command line; what it comes to is in `process.exitCode`. */
export async function run(args: readonly string[]): Promise<void> {
  try {
    await createProgram(args[0]).parseAsync(args, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : USAGE;
    else if (!isInterrupted()) process.exitCode = report(error);
  }
}

const COMMANDS = {
  scan: scanCommand,
  classify: classifyCommand,
  score: scoreCommand,
  eval: evalCommand,
  export: exportCommand,
  pull: pullCommand,
  proxy: proxyCommand,
  serve: serveCommand,
  playground: playgroundCommand,
  doctor: doctorCommand,
  cuda: cudaCommand,
};

/** @param named what the command line begins with: where that is a command, the others have no part in it */
function createProgram(named: string | undefined): Command {
  const program = new Command("qwen3guard")
    .description("Judges the output of an LLM token by token, as it streams.")
    .version(PACKAGE.version)
    .addHelpText(
      "after",
      `
Examples:
  $ my-llm "Tell me a story" | qwen3guard scan --prompt "Tell me a story"
  $ qwen3guard scan --prompt "Hi" --jsonl < answer.txt | jq .risk
  $ qwen3guard doctor

Exit codes: 0 done, 1 error, 2 wrong usage, 3 found what --fail-on names or blocked, 130 Ctrl-C, 143 SIGTERM.`,
    );

  for (const [name, create] of Object.entries(COMMANDS)) {
    if (named === name || !Object.hasOwn(COMMANDS, named ?? "")) program.addCommand(create());
  }
  for (const command of [program, ...program.commands.flatMap((command) => [command, ...command.commands])]) {
    command
      .exitOverride()
      .showHelpAfterError("(--help shows how it is used)")
      .configureOutput({ outputError: (text, write) => write(visible(text)) });
    refuseEmptyValues(command);
  }
  return program;
}

/** Texts: an answer, which is then refused as one, and what stands in the place of one. */
const MAY_BE_EMPTY = ["response", "replacement"];

/**
 * A variable that is not set must not go for an option that was left out, nor for a value: for a key that anybody has, or for an
 * address that stands for all.
 */
function refuseEmptyValues(command: Command): void {
  for (const option of command.options) {
    if (option.isBoolean() || MAY_BE_EMPTY.includes(option.name())) continue;
    command.on(`option:${option.name()}`, (value) => {
      if (value === "") command.error(`error: option '${option.flags}' is empty`);
    });
  }
}

function report(error: unknown): number {
  const { colors } = createTerminal(process.stderr);
  if (error instanceof GuardError) {
    process.stderr.write(
      `${colors.red("error")} ${colors.dim(`[${error.code}]`)} ${visibleLine(error.message)}\n`,
    );
  } else {
    const text = (error instanceof Error && error.stack) || String(error);
    process.stderr.write(`${colors.red("error")} ${visible(text)}\n`);
  }
  return FAILURE;
}
