/** Draws bench/plots/*.svg from the results at hand. */
import "./latency-plots.js";
import { readResult as read, savePicture as save } from "./pictures.js";
import type { Summary } from "./stats.js";
import { barChart, type Line, lineChart } from "./svg.js";

interface Format {
  perToken: Record<string, Summary>;
  promptMs: Record<string, Summary>;
}

const formats = read<{ formats: Record<string, Format> }>("formats")?.formats;
if (formats) {
  const lines = (of: keyof Format): Line[] =>
    Object.entries(formats).map(([name, format]) => ({
      name,
      points: Object.entries(format[of]).map(([x, { p50 }]) => [Number(x), p50]),
    }));
  save(
    "token-by-context",
    lineChart("One token, by format", "tokens of context", "milliseconds, median", lines("perToken")),
  );
  save("prompts", lineChart("Whole prompts, by format", "tokens", "milliseconds, median", lines("promptMs")));
}

const contenders = read<{ contexts: number[]; results: Record<string, Format> }>("contenders");
for (const context of contenders?.contexts ?? []) {
  const bars = Object.entries(contenders!.results).map(
    ([name, { perToken }]) => [name, perToken[context].p50] as [string, number],
  );
  const title = `One more token at ${context} tokens of context`;
  save(`contenders-${context}`, barChart(title, "milliseconds, median, logarithmic", bars));
}
