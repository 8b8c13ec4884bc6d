/** Draws what the guard adds to a token, and what tokens, streams and starts cost on a device. */
import { readResult, resultNames, savePicture } from "./pictures.js";
import type { Summary } from "./stats.js";
import { barChart, type Line, lineChart, type Range, rangeChart } from "./svg.js";

interface Guarded {
  addedMs: Summary | null;
}
interface AddedLatency {
  guard: string;
  device: string;
  results: Record<string, { alone: { itlMs: Summary }; "hold-back": Guarded; "stream-first": Guarded }>;
}
interface Context {
  results: Record<string, { perToken: Record<string, Summary> }>;
}
interface Streams {
  guard: string;
  results: Record<string, { tokensPerSecond: number; tokenMs: Summary }>;
}
interface Starts {
  results: Record<string, Record<"importMs" | "loadMs" | "firstVerdictMs", Summary>>;
}
interface Dtypes {
  results: Record<string, Record<"tokenAt100" | "tokenAt1000" | "tokenOfEight" | "prompt500", Summary>>;
}

interface Conversations {
  guards: Record<string, { turns: ({ tokens: number } & Record<"plain" | "reuse" | "ahead", Summary>)[] }>;
}

const DEVICES = { cpu: "", cuda: "-cuda" };

for (const name of resultNames("added-latency-")) {
  const { guard, device, results } = readResult<AddedLatency>(name)!;
  const ranges = Object.entries(results).flatMap(([generator, result]): Range[] => {
    const { itlMs } = result.alone;
    return [
      { group: generator, name: "ITL alone", from: itlMs.p50, to: itlMs.p99, color: 0 },
      ...(["hold-back", "stream-first"] as const).flatMap((mode, i) => {
        const { addedMs } = result[mode];
        return addedMs ? [{ name: mode, from: addedMs.p50, to: addedMs.p99, color: i + 1 }] : [];
      }),
    ];
  });
  const label = "milliseconds a token, logarithmic: median (dot) to 99th percentile";
  const legend = ["the model's ITL alone", "added, hold-back", "added, stream-first"];
  savePicture(name, rangeChart(`What the guard adds: ${guard} on ${device}`, label, ranges, legend));
}

for (const [device, suffix] of Object.entries(DEVICES)) {
  for (const name of namesOn(device, "context-")) {
    const series = Object.entries(readResult<Context>(name)!.results);
    const lines = series
      .filter(([, { perToken }]) => Object.keys(perToken).length > 0)
      .map(([name, { perToken }]): Line => {
        return { name, points: Object.entries(perToken).map(([x, { p50 }]) => [Number(x), p50]) };
      });
    const [title, label] = [`One more token, by context, on ${device}`, "milliseconds, median, logarithmic"];
    const chart = lineChart(title, "tokens of context", label, lines, { logarithmic: true });
    savePicture(name, chart);
  }

  for (const [guard, { turns }] of Object.entries(
    readResult<Conversations>(`conversations${suffix}`)?.guards ?? {},
  )) {
    const line = (name: string, mode: "plain" | "reuse" | "ahead"): Line => {
      return { name, points: turns.map(({ tokens, [mode]: { min } }) => [tokens, min]) };
    };
    const lines = [line("read anew", "plain"), line("used again", "reuse"), line("read ahead", "ahead")];
    const title = `A conversation's turns: ${guard} on ${device}`;
    savePicture(
      `conversations${suffix}-${guard}`,
      lineChart(title, "tokens of the conversation", "milliseconds to the prompt's verdict, least", lines),
    );
  }

  const streams = namesOn(device, "streams-").map((name) => readResult<Streams>(name)!);
  if (streams.length > 0) {
    const lines = (value: (of: Streams["results"][string]) => number) =>
      streams.map(({ guard, results }): Line => {
        return { name: guard, points: Object.entries(results).map(([x, of]) => [Number(x), value(of)]) };
      });
    const [throughput, waits] = [lines((of) => of.tokensPerSecond), lines((of) => of.tokenMs.p99)];
    const log = { logarithmic: true };
    const save = (what: string, title: string, label: string, chosen: Line[]) =>
      savePicture(`${what}${suffix}`, lineChart(`${title}, on ${device}`, "streams", label, chosen, log));
    save("streams-throughput", "All streams together", "tokens a second, logarithmic", throughput);
    save(
      "streams-p99",
      "A token of one of many streams",
      "milliseconds, 99th percentile, logarithmic",
      waits,
    );
  }

  const starts = readResult<Starts>(`load${suffix}`);
  if (starts) {
    const total = Object.entries(starts.results).map(([name, { importMs, loadMs, firstVerdictMs }]) => {
      const sum = importMs.p50 + loadMs.p50 + firstVerdictMs.p50;
      return [name, Math.round(sum)] as [string, number];
    });
    const title = `From the process's start to the first verdict, on ${device}`;
    savePicture(`load${suffix}`, barChart(title, "milliseconds, median, logarithmic", total));
  }

  const dtypes = readResult<Dtypes>(`dtype${suffix}`);
  if (dtypes) {
    const bars = Object.entries(dtypes.results).flatMap(([name, of]) => [
      [`${name}: a token at 100`, of.tokenAt100.p50] as [string, number],
      [`${name}: a token at 1,000`, of.tokenAt1000.p50] as [string, number],
      [`${name}: a token of eight streams`, of.tokenOfEight.p50] as [string, number],
    ]);
    const title = `Formats on ${device}`;
    savePicture(`dtype${suffix}`, barChart(title, "milliseconds, median, logarithmic", bars));
  }
}

function namesOn(device: string, beginning: string): string[] {
  return resultNames(beginning).filter((name) => /-cuda(-\d+)?$/.test(name) === (device === "cuda"));
}
