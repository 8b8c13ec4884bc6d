import { Command, Option } from "commander";
import type { HubSource } from "../../download/hub.js";
import { interruptSignal } from "../interrupt.js";
import { ProgressBars } from "../progress-bars.js";
import { createTerminal, visibleLine } from "../terminal.js";

const DEFAULT_REPO = "Qwen/Qwen3Guard-Stream-0.6B";

interface Options {
  revision?: string;
  source?: HubSource;
}

const EXAMPLES = `
Examples:
  $ qwen3guard pull                                  the 0.6B model (1.2 GB)
  $ qwen3guard pull Qwen/Qwen3Guard-Stream-4B
  $ qwen3guard export "$(qwen3guard pull)" ./guard   fetch, then convert
  $ qwen3guard pull Qwen/Qwen3Guard-Gen-0.6B --source modelscope
  $ HF_ENDPOINT=https://hub.example.com qwen3guard pull

Environment:
  HF_TOKEN         token for private or gated repositories (default: the one "hf auth login" stored)
  HF_ENDPOINT      another hub or a mirror
  HF_HOME          where cache and token lie (default: ~/.cache/huggingface)
  HF_HUB_CACHE     where the cache alone lies (default: $HF_HOME/hub)
  HF_HUB_OFFLINE   1: use what is in the cache, ask no network
  HF_HUB_DISABLE_SYMLINKS   1: make no symbolic links in the cache
  QWEN3GUARD_SOURCE     huggingface or modelscope: where hub ids are fetched from, in all commands
  MODELSCOPE_CACHE      where ModelScope's cache lies (default: ~/.cache/modelscope/hub)
  MODELSCOPE_ENDPOINT   a mirror of ModelScope`;

export function pullCommand(): Command {
  return new Command("pull")
    .summary("fetch a checkpoint from the Hugging Face hub, or from ModelScope")
    .description(
      "Fetches a checkpoint of Qwen3Guard-Stream or Qwen3Guard-Gen into the ordinary Hugging Face cache, where Python tools find it too, " +
        "and prints its folder. An interrupted download continues when the command is run again.",
    )
    .argument("[repo]", "repository on the hub, as organization/name", DEFAULT_REPO)
    .addOption(
      new Option("--revision <revision>", "branch, tag or commit hash").default(
        undefined,
        "main; ModelScope's master",
      ),
    )
    .addOption(
      new Option("--source <hub>", "which hub, with its own cache")
        .choices(["huggingface", "modelscope"])
        .default(undefined, "QWEN3GUARD_SOURCE, else huggingface"),
    )
    .addHelpText("after", EXAMPLES)
    .action(fetchCheckpoint);
}

async function fetchCheckpoint(repo: string, options: Options): Promise<void> {
  const { pull } = await import("../../download/hub.js");
  const signal = interruptSignal();
  const progress = new ProgressBars(createTerminal(process.stderr));
  const folder = await pull(repo, {
    ...options,
    signal,
    onProgress: (file, loaded, total) => progress.update(file, "bytes", loaded, total),
  }).finally(() => {
    progress.stop();
    if (signal.aborted) process.stderr.write("Stopped. Run again: the download goes on where it is.\n");
  });
  // Elsewhere than on a screen it is a path to use, as it is.
  process.stdout.write(`${process.stdout.isTTY ? visibleLine(folder) : folder}\n`);
}
