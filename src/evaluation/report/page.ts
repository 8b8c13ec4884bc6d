import { basename } from "node:path";
import { html, raw } from "hono/html";
import { type Severity, severityOf } from "../../moderation/labels.js";
import { asset, contentSecurityPolicy } from "../../ui/assets.js";
import { DELAYS, type DelaySummary } from "../delay.js";
import type { Evaluation } from "../evaluation.js";
import { type Confusion, definedShares, GROUPINGS, type GroupSummary, type Score } from "../metrics.js";

type Html = ReturnType<typeof html>;

/** What was evaluated, in words. */
export interface Subject {
  dataset: string;
  model: string;
  device: string;
}

const SEVERITIES: readonly Severity[] = ["safe", "controversial", "unsafe"];
const GROUP_NAMES = { source: "By source", category: "By annotated category", lang: "By language" };

/** The page up to its data. Only its own script may run. */
export function pageHead(subject: Subject, evaluation: Evaluation): string {
  const { run, summary } = evaluation;
  const name = basename(subject.dataset);
  const policy = contentSecurityPolicy(asset("report.js"), "'none'");
  const reasoning = run.reasoning ? ", from the reasoning on" : "";
  return String(html`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${name} · qwen3guard eval</title>
<style>${raw(asset("report.css"))}</style>
<main>
<h1>${name}</h1>
<p class="about">${run.type === "prompt" ? "Prompts" : "Responses"}${reasoning}, judged by ${subject.model} (${run.dtype}, ${subject.device})</p>
${evaluation.warnings.map((warning) => html`<p class="card warning">${warning}</p>`)}
${tiles(evaluation)}
<div class="panels">
${summary.delay ? histogram(summary.delay) : null}
${confusion(summary.confusion)}
</div>
${GROUPINGS.map((grouping) => groups(GROUP_NAMES[grouping], summary.groups[grouping]))}
${badRows(evaluation)}
<div id="rows"><noscript>The conversations are drawn by a script.</noscript></div>
</main>
<script type="application/json" id="data">`);
}

/** What follows the data. */
export function pageTail(): string {
  return `</script>\n<script>${asset("report.js")}</script>\n</html>\n`;
}

export function labelNames(labels: readonly string[]): { name: string; severity: Severity }[] {
  return labels.map((name) => ({ name, severity: severityOf(name) }));
}

function tiles({ summary, badRows, missing }: Evaluation): Html {
  const absent = Object.values(missing).reduce((sum, rows) => sum + rows, 0);
  const left = [
    badRows.length > 0 ? `${count(badRows.length)} bad` : "",
    absent > 0 ? `${count(absent)} left out` : "",
  ];
  return html`<div class="tiles">
${score("F1, controversial as unsafe", summary.strict)}
${score("F1, controversial as safe", summary.loose)}
${summary.delay ? tile("Exact hit", percent(summary.delay.exactHit), "flagged inside the annotated sentence") : null}
${summary.delay ? tile("First 128 tokens", percent(summary.delay.first128), "flagged by then, or ahead") : null}
${tile("Rows", count(summary.rows), [...left.filter(Boolean), `${count(summary.tokens)} tokens`].join(", "))}
</div>`;
}

function score(name: string, { f1, precision, recall }: Score): Html {
  return tile(name, percent(f1), `precision ${percent(precision)}, recall ${percent(recall)}`);
}

function tile(name: string, value: string, detail: string): Html {
  return html`<div class="tile card"><div class="name">${name}</div><div class="value">${value}</div><div class="detail">${detail}</div></div>`;
}

function histogram({ rows, bins }: DelaySummary): Html {
  const highest = Math.max(1, ...Object.values(bins));
  const bars = DELAYS.map((delay) => {
    const kind = delay === "ahead" || delay === "hit" || delay === "missed" ? delay : "late";
    // The bar takes what count and name leave of the column.
    const height = ((100 * bins[delay]) / highest).toFixed(1);
    return html`<button data-delay="${delay}" aria-pressed="false" title="${percent(bins[delay] / rows)} of ${rows}"><span class="count">${bins[delay]}</span><span class="bar ${kind}" style="height:calc((100% - 3.2rem) * ${height} / 100)"></span><span class="bin">${delay}</span></button>`;
  });
  return html`<section class="card"><h2>When unsafe responses were flagged</h2>
<div class="histogram">${bars}</div>
<p class="about" style="margin:.4rem 0 0">Tokens after the annotated sentence. A bar shows its rows below.</p></section>`;
}

function confusion(table: Confusion): Html {
  const cell = (label: Severity, found: Severity): Html => {
    const kind = table[label][found] === 0 ? "none" : label === found ? "right" : "wrong";
    return html`<td class="${kind}">${count(table[label][found])}</td>`;
  };
  return html`<section class="card"><h2>What was annotated, what was found</h2>
<table><thead><tr><th>annotated</th>${SEVERITIES.map((found) => html`<th>found ${found}</th>`)}</tr></thead>
<tbody>${SEVERITIES.map((label) => html`<tr><th>${label}</th>${SEVERITIES.map((found) => cell(label, found))}</tr>`)}</tbody></table></section>`;
}

function groups(name: string, values: Record<string, GroupSummary>): Html | null {
  const entries = Object.entries(values);
  if (entries.length === 0) return null;
  return html`<details class="more card"><summary>${name} (${entries.length})</summary><div class="scroll"><table>
<thead><tr><th></th><th>rows</th><th>unsafe</th><th>F1</th><th>precision</th><th>recall</th><th>false alarms</th><th>F1, controversial as safe</th></tr></thead>
<tbody>${entries.map(([value, { rows, strict, loose }]) => {
    const unsafe = strict.truePositives + strict.falseNegatives;
    return html`<tr><th>${value}</th><td>${count(rows)}</td><td>${count(unsafe)}</td>${[...definedShares(strict), definedShares(loose)[0]].map((value) => html`<td>${value === null ? "–" : percent(value)}</td>`)}</tr>`;
  })}</tbody></table></div></details>`;
}

function badRows({ badRows }: Evaluation): Html | null {
  if (badRows.length === 0) return null;
  return html`<details class="more card"><summary>Bad rows, not judged (${badRows.length})</summary><div class="scroll"><table>
<tbody>${badRows.map(({ line, problem }) => html`<tr><td>row ${line}: ${problem}</td></tr>`)}</tbody></table></div></details>`;
}

function percent(value: number): string {
  return `${(100 * value).toFixed(1)} %`;
}

function count(value: number): string {
  return value.toLocaleString("en");
}
