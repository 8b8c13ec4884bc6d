import { Command, Option } from "commander";
import { addModelOptions, loadModel, type ModelOptions } from "../model-options.js";
import { whole } from "../numbers.js";
import { closeWhenAsked, type Stop, untilStopped } from "../stop.js";
import { createTerminal } from "../terminal.js";

interface Options extends ModelOptions {
  port: number;
  open?: boolean;
}

export function playgroundCommand(): Command {
  const command = new Command("playground")
    .summary("watch the guard at work on your own words, in a browser")
    .description(
      "Serves a page on this machine: conversations to edit, answers typed or asked of a model, each token in the " +
        "colour of its risk, and a policy to change while you watch. Nothing leaves the machine but what you send to an " +
        "endpoint yourself.",
    )
    .addOption(
      new Option("--port <port>", "where to listen; any free one by default")
        .default(0)
        .argParser(whole(0, 65535)),
    )
    .option("--open", "open the page in the browser")
    .addHelpText(
      "after",
      `
Examples:
  $ qwen3guard playground --open
  $ qwen3guard playground --model Qwen/Qwen3Guard-Stream-0.6B --port 8788

The address it prints holds a token: who has it can use the page, from this machine alone.`,
    )
    .action((options: Options) => untilStopped((stop) => playground(options, stop)));
  return addModelOptions(command);
}

async function playground(options: Options, stop: Stop): Promise<void> {
  const [{ PlaygroundServer }, { describeGuard }, { listen }] = await Promise.all([
    import("../../playground/server.js"),
    import("../../playground/guard-info.js"),
    import("../../gateway/server.js"),
  ]);
  const terminal = createTerminal(process.stderr);
  const guard = await loadModel(options, { signal: stop.asked });
  try {
    if (stop.asked.aborted) return;
    const page = new PlaygroundServer(guard, describeGuard(guard, options.model));
    const server = await listen(page, options.port, "127.0.0.1");
    const address = `${server.url}/?token=${page.token}`;
    process.stdout.write(`${terminal.colors.bold(address)}\n`);
    if (options.open) await openBrowser(address);
    await closeWhenAsked(server, 0, stop);
  } finally {
    await guard.close();
  }
}

/** Where there is no browser, the address stands on the terminal. */
async function openBrowser(address: string): Promise<void> {
  const { spawn } = await import("node:child_process");
  const [command, ...args] = {
    darwin: ["open", address],
    win32: ["rundll32", "url.dll,FileProtocolHandler", address],
  }[process.platform as string] ?? ["xdg-open", address];
  spawn(command, args, { stdio: "ignore", detached: true })
    .on("error", () => {})
    .unref();
}
