import { Command } from "commander";
import { ProgressBars } from "../progress-bars.js";
import { createTerminal, visibleLine } from "../terminal.js";

const DEFAULT_REPO = "Qwen/Qwen3Guard-Stream-0.6B";

export function pullCommand(): Command {
  return new Command("pull")
    .summary("fetch a checkpoint from the Hugging Face hub")
    .description(
      "Fetches a Qwen3Guard-Stream checkpoint into the ordinary Hugging Face cache, where Python tools find it too, " +
        "and prints its folder. An interrupted download continues when the command is run again.",
    )
    .argument("[repo]", "repository on the hub, as organization/name", DEFAULT_REPO)
    .option("--revision <revision>", "branch, tag or commit hash", "main")
    .addHelpText(
      "after",
      `
Examples:
  $ qwen3guard pull                                  the 0.6B model (1.2 GB)
  $ qwen3guard pull Qwen/Qwen3Guard-Stream-4B
  $ qwen3guard export "$(qwen3guard pull)" ./guard   fetch, then convert
  $ HF_ENDPOINT=https://hub.example.com qwen3guard pull

Environment:
  HF_TOKEN         token for private or gated repositories (default: the one "hf auth login" stored)
  HF_ENDPOINT      another hub or a mirror
  HF_HOME          where cache and token lie (default: ~/.cache/huggingface)
  HF_HUB_CACHE     where the cache alone lies (default: $HF_HOME/hub)
  HF_HUB_OFFLINE   1: use what is in the cache, ask no network
  HF_HUB_DISABLE_SYMLINKS   1: make no symbolic links in the cache`,
    )
    .action(async (repo: string, { revision }: { revision: string }) => {
      const { pull } = await import("../../checkpoint/hub.js");
      const progress = new ProgressBars(createTerminal(process.stderr));
      const folder = await pull(repo, {
        revision,
        onProgress: (file, loaded, total) => progress.update(file, "bytes", loaded, total),
      }).finally(() => progress.stop());
      // Elsewhere than on a screen it is a path to use, as it is.
      process.stdout.write(`${process.stdout.isTTY ? visibleLine(folder) : folder}\n`);
    });
}
