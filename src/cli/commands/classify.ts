import { Command, Option } from "commander";
import type { Classification } from "../../moderation/classification.js";
import { severityOf } from "../../moderation/labels.js";
import type { Message } from "../../tokenizer/chat-template/messages.js";
import { interruptSignal } from "../interrupt.js";
import { readMessages } from "../messages-file.js";
import { addModelOptions, loadAnyModel, type ModelOptions } from "../model-options.js";
import { createTerminal, type Terminal, visibleLine } from "../terminal.js";

interface Options extends ModelOptions {
  prompt?: string;
  messages?: string;
  response?: string;
  json?: boolean;
  failOn?: "unsafe" | "controversial";
}

const FLAGGED = 3;

export function classifyCommand(): Command {
  const command = new Command("classify")
    .summary("judge a finished conversation at once")
    .description(
      "Says what a prompt is, or an answer to it, in the words that Qwen3Guard-Gen uses. The last message decides: an " +
        "assistant's is judged as an answer to those before it. Takes guards of both kinds; a Gen guard says whether an " +
        "answer refuses, too.",
    )
    .addOption(new Option("--prompt <text>", "what the user asked").conflicts("messages"))
    .option("--messages <file>", "JSON file with a conversation: [{role, content}, …]")
    .option("--response <text>", "the answer, if it is not the conversation's last message")
    .option("--json", "one JSON object with all probabilities")
    .addOption(
      new Option("--fail-on <risk>", "exit with 3 if it is found so (controversial: or worse)").choices([
        "unsafe",
        "controversial",
      ]),
    )
    .addHelpText(
      "after",
      `
Examples:
  $ qwen3guard classify --prompt "How do I bake bread?"
  $ qwen3guard classify --prompt "Hi" --response "You are a stupid, ugly loser." --json
  $ qwen3guard classify --messages chat.json --fail-on unsafe || echo "flagged or failed"
  $ qwen3guard classify --prompt "Hi" --response "No." --model Qwen/Qwen3Guard-Gen-0.6B`,
    )
    .action(classify);
  return addModelOptions(command);
}

async function classify(options: Options, command: Command): Promise<void> {
  if (options.prompt === undefined && options.messages === undefined) {
    command.error("error: say what to judge: --prompt TEXT or --messages FILE", { exitCode: 2 });
  }
  // Until it is judged: nobody must be told that all is well.
  if (options.failOn) process.exitCode = 1;
  const signal = interruptSignal();
  const asked = await readMessages(options);
  const { response } = options;
  const messages: Message[] =
    response === undefined ? asked : [...asked, { role: "assistant", content: response }];
  const guard = await loadAnyModel(options, { maxStreams: 1, signal });
  try {
    const found = await guard.classify({ messages, signal });
    process.stdout.write(
      options.json ? `${JSON.stringify(found)}\n` : shown(found, createTerminal(process.stdout)),
    );
    process.exitCode = options.failOn && isMet(options.failOn, found) ? FLAGGED : 0;
  } finally {
    await guard.close();
  }
}

function shown(found: Classification, { colors }: Terminal): string {
  const paint = { safe: colors.green, controversial: colors.yellow, unsafe: colors.red }[
    severityOf(found.risk)
  ];
  const at = found.flaggedAt === null ? "" : `, from token ${found.flaggedAt}`;
  const sure = colors.dim(`${found.part}, ${(100 * found.riskProbability).toFixed(1)} %${at}`);
  return `${found.text.split("\n").map(visibleLine).map(paint).join("\n")}\n${sure}\n`;
}

function isMet(failOn: "unsafe" | "controversial", { risk }: Classification): boolean {
  const severity = severityOf(risk);
  return severity === "unsafe" || (failOn === "controversial" && severity === "controversial");
}
