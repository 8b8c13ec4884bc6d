import { Command, Option } from "commander";
import type { Overflow } from "../../moderation/context-window.js";
import { INPUT_KINDS, type InputKind } from "../input-kinds.js";
import { addModelOptions, type ModelOptions } from "../model-options.js";
import { batchMsOption, batchTokensOption, type PaceOptions, releaseOption } from "../pace-options.js";

export interface ScanOptions extends ModelOptions, PaceOptions {
  prompt?: string;
  messages?: string;
  input: InputKind;
  policy?: string;
  stop?: boolean;
  jsonl?: boolean;
  failOn?: "unsafe" | "controversial";
  reasoning?: boolean;
  overflow: Overflow;
}

const EXAMPLES = `
Examples:
  $ my-llm "How do I bake bread?" | qwen3guard scan --prompt "How do I bake bread?"
  $ qwen3guard scan --messages chat.json --jsonl < answer.txt > verdicts.jsonl
  $ qwen3guard scan --prompt "Hi" --fail-on unsafe < answer.txt || echo "flagged or failed"
  $ curl -N https://api.openai.com/v1/chat/completions … | qwen3guard scan --input sse --stop
  $ echo "9707 0 358" | qwen3guard scan --input ids --model Qwen/Qwen3Guard-Stream-0.6B --prompt "Hi"

Lines of --jsonl:
  {"type":"prompt","risk",…}                        the prompt's verdict
  {"type":"token","index","tokenId","text","risk","riskProbability","category","categoryProbability","provisional"}
                                                    a later line with the same index revises it
  {"type":"violation","part","risk","category","index",…}   what the policy blocked; with --stop the last line
  {"type":"end","risk","category","flaggedAt","tokens","promptTokens","reusedTokens",
                                                    "strict","loose","latencyMs":{"p50","p99"}}`;

export function scanCommand(): Command {
  const command = new Command("scan")
    .summary("judge a response as it arrives on standard input")
    .description(
      "Reads an LLM's response from standard input as it arrives and judges every token. On a terminal the text " +
        "appears in the colour of its risk; at the end stands what the whole amounts to.",
    )
    .addOption(new Option("--prompt <text>", "what the user asked; judged too").conflicts("messages"))
    .option(
      "--messages <file>",
      "JSON file with the conversation so far: [{role, content}, …]; its prompt is judged too",
    )
    .addOption(
      new Option(
        "--input <kind>",
        "what arrives: text, ids of this model, an API's event stream, JSON lines, Ollama's stream",
      )
        .choices(INPUT_KINDS)
        .default("text"),
    )
    .option("--jsonl", "one JSON object a line, for machines")
    .addOption(
      new Option(
        "--fail-on <risk>",
        "exit with 3 if prompt or response is found so (controversial: or worse)",
      ).choices(["unsafe", "controversial"]),
    )
    .option("--policy <file>", "JSON file with a policy; exit with 3 where it blocks")
    .option("--stop", "show only what the policy lets pass, and stop reading where it blocks (exit 3)")
    .addOption(releaseOption())
    .addOption(batchTokensOption())
    .addOption(batchMsOption())
    .option("--reasoning", "the response starts with the model's <think> … </think>")
    .addOption(
      new Option(
        "--overflow <how>",
        "when the response outgrows the guard's context: slide (keep the prompt and the newest tokens), or error",
      )
        .choices(["slide", "error"])
        .default("slide"),
    )
    .addHelpText("after", EXAMPLES)
    .action(async (options: ScanOptions) => (await import("../scanning.js")).scan(options));
  return addModelOptions(command);
}
