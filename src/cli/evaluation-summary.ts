import { DELAYS } from "../evaluation/delay.js";
import type { BadRow, Evaluation } from "../evaluation/evaluation.js";
import { definedShares, GROUPINGS, type GroupSummary, type Score } from "../evaluation/metrics.js";
import type { Subject } from "../evaluation/report/page.js";
import type { Severity } from "../moderation/labels.js";
import { type Terminal, visibleLine } from "./terminal.js";

const SEVERITIES: readonly Severity[] = ["safe", "controversial", "unsafe"];
const BAR = 28;
/** Values of a grouping that are shown; --json has them all. */
const SHOWN_VALUES = 12;

/** The whole evaluation as one line of JSON. */
export function evaluationJson(subject: Subject, evaluation: Evaluation): string {
  const { run, summary, resumed, badRows, missing, warnings, seconds, tokens } = evaluation;
  const { rows, strict, loose, confusion, delay, groups } = summary;
  return JSON.stringify({
    ...subject,
    dtype: run.dtype,
    type: run.type,
    reasoning: run.reasoning,
    rows: { judged: rows, resumed, bad: badRows.length, missing },
    strict,
    loose,
    delay,
    confusion,
    groups,
    badRows,
    warnings,
    speed: { seconds: Number(seconds.toFixed(3)), tokens },
  });
}

/** The whole evaluation as text for people. */
export function evaluationText(subject: Subject, evaluation: Evaluation, colors: Terminal["colors"]): string {
  const { run, summary, resumed, badRows, missing, warnings, seconds, tokens } = evaluation;
  const { strict, loose, confusion, delay, groups } = summary;
  const { bold, dim, yellow } = colors;
  const lines = [
    `${bold(visibleLine(subject.dataset))}  ${run.type}s${run.reasoning ? ", reasoning" : ""}`,
    dim(`${visibleLine(subject.model)}, ${run.dtype}, ${subject.device}`),
    "",
    bold(`${pad("", 30)}${["F1", "precision", "recall", "false alarms"].map(cell).join("")}`),
    pad("controversial as unsafe", 30) + scoreCells(strict),
    pad("controversial as safe", 30) + scoreCells(loose),
    "",
    bold(pad("annotated ↓  found →", 30) + SEVERITIES.map(cell).join("")),
    ...SEVERITIES.map(
      (label) => pad(label, 30) + SEVERITIES.map((found) => cell(count(confusion[label][found]))).join(""),
    ),
  ];
  if (delay) {
    const highest = Math.max(...Object.values(delay.bins));
    lines.push(
      "",
      `${bold("exact hit")} ${percent(delay.exactHit)}   ${bold("first 128 tokens")} ${percent(delay.first128)}   ${dim(`of ${count(delay.rows)} unsafe rows with an annotated sentence`)}`,
      ...DELAYS.map((bin) => {
        const bar = "█".repeat(Math.round((BAR * delay.bins[bin]) / highest));
        return `  ${pad(bin, 9)}${count(delay.bins[bin]).padStart(7)}  ${bar}`;
      }),
    );
  }
  for (const grouping of GROUPINGS) lines.push(...groupLines(grouping, groups[grouping], colors));
  const rate = resumed < summary.rows ? `, ${(tokens / seconds).toFixed(0)} tokens/s` : "";
  lines.push(
    "",
    `${bold(rowCount(summary.rows))}, ${count(summary.tokens)} tokens${rate}${resumed > 0 ? `; ${rowCount(resumed)} of them in the file already` : ""}`,
    ...Object.entries(missing).map(([field, rows]) => `${rowCount(rows)} left out, without ${field}`),
    ...badRowLines(badRows).map((line) => yellow(line)),
    ...warnings.map((warning) => yellow(`Beware: ${visibleLine(warning)}`)),
  );
  return lines.join("\n");
}

function groupLines(
  grouping: string,
  values: Record<string, GroupSummary>,
  { bold, dim }: Terminal["colors"],
): string[] {
  // An object has keys such as "7" before all others.
  const entries = Object.entries(values).sort(([, a], [, b]) => b.rows - a.rows);
  if (entries.length === 0) return [];
  const columns = ["rows", "unsafe", "F1", "precision", "recall", "false alarms"];
  const lines = entries
    .slice(0, SHOWN_VALUES)
    .map(
      ([value, { rows, strict }]) =>
        pad(visibleLine(value), 30) +
        cell(count(rows)) +
        cell(count(strict.truePositives + strict.falseNegatives)) +
        scoreCells(strict),
    );
  const rest = entries.length - lines.length;
  return [
    "",
    bold(pad(`by ${grouping}`, 30) + columns.map(cell).join("")) + dim("   controversial as unsafe"),
    ...lines,
    ...(rest > 0 ? [dim(`… and ${rest} more; --json has all`)] : []),
  ];
}

/** Bad rows by problem, neighbouring lines as ranges: every line is named, however many there are. */
function badRowLines(badRows: readonly BadRow[]): string[] {
  const byProblem = new Map<string, number[]>();
  for (const { line, problem } of badRows) {
    if (!byProblem.has(problem)) byProblem.set(problem, []);
    byProblem.get(problem)?.push(line);
  }
  const lines = [...byProblem].map(
    ([problem, rows]) => `  ${visibleLine(problem)}: ${rows.length > 1 ? "rows" : "row"} ${ranges(rows)}`,
  );
  return lines.length === 0 ? [] : [`${rowCount(badRows.length, "bad ")} not judged:`, ...lines];
}

function ranges(ascending: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const line of ascending) {
    const last = parts.at(-1);
    if (last && line === last[1] + 1) last[1] = line;
    else parts.push([line, line]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(", ");
}

/** "1 row", "2 rows". */
function rowCount(rows: number, kind = ""): string {
  return `${count(rows)} ${kind}${rows === 1 ? "row" : "rows"}`;
}

function scoreCells(score: Score): string {
  return definedShares(score)
    .map((value) => cell(value === null ? "–" : percent(value)))
    .join("");
}

function cell(text: string): string {
  return text.padStart(14);
}

function pad(text: string, width: number): string {
  return text.length < width ? text.padEnd(width) : `${text.slice(0, width - 2)}… `;
}

function percent(value: number): string {
  return `${(100 * value).toFixed(2)} %`;
}

function count(value: number): string {
  return value.toLocaleString("en");
}
