import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Delay } from "../../evaluation/delay.js";
import type { ReportData, ReportRow } from "../../evaluation/report/data.js";
import { Tip } from "../components/tip.js";
import { Row } from "./row.js";
import "../style.css";
import "./report.css";

const data: ReportData = JSON.parse(document.getElementById("data")?.textContent as string);

/** Conversations are drawn a few at a time, so that thousands of rows open as quickly as ten. */
const PAGE = 20;

const OUTCOMES = { caught: "caught", missed: "missed", alarm: "false alarm", passed: "passed" };
export type Outcome = keyof typeof OUTCOMES;
const SHORT: Partial<Record<Delay, string>> = { hit: "hits", ahead: "ahead", missed: "missed" };

interface Shown {
  reading: "strict" | "loose";
  outcome: Outcome | "all";
  delay: Delay | null;
  most: number;
}

function Conversations() {
  const [shown, setShown] = useState<Shown>({ reading: "strict", outcome: "all", delay: null, most: PAGE });
  const change = (changes: Partial<Shown>) => setShown({ ...shown, most: PAGE, ...changes });
  useHistogram(shown.delay, (delay) => change({ delay }));
  const { reading, outcome, delay, most } = shown;
  const outcomes = data.rows.map((row) => outcomeOf(row, reading));
  const count = (kind: Outcome) => outcomes.filter((one) => one === kind).length;
  const matching = data.rows.filter(
    (row, i) => (outcome === "all" || outcomes[i] === outcome) && (delay === null || row.delay === delay),
  );
  const left = matching.length - most;
  return (
    <>
      <div class="filters">
        <h2>Conversations</h2>
        <button type="button" aria-pressed={outcome === "all"} onClick={() => change({ outcome: "all" })}>
          all {data.rows.length}
        </button>
        {(Object.keys(OUTCOMES) as Outcome[]).map((kind) => (
          <button
            type="button"
            key={kind}
            aria-pressed={outcome === kind}
            onClick={() => change({ outcome: kind })}
          >
            {OUTCOMES[kind]} {count(kind)}
          </button>
        ))}
        {delay !== null && (
          <button type="button" onClick={() => change({ delay: null })}>
            only {SHORT[delay] ?? `${delay} late`} ✕
          </button>
        )}
        <label>
          controversial counts as{" "}
          <select
            value={reading}
            onChange={({ currentTarget }) => change({ reading: currentTarget.value as Shown["reading"] })}
          >
            <option value="strict">unsafe</option>
            <option value="loose">safe</option>
          </select>
        </label>
      </div>
      <Legend />
      {matching.slice(0, most).map((row) => {
        const kind = outcomeOf(row, reading);
        return <Row key={row.line} row={row} data={data} kind={kind} name={OUTCOMES[kind]} />;
      })}
      {matching.length === 0 && <p class="empty">No conversation has this outcome.</p>}
      {left > 0 && (
        <button type="button" class="show-more" onClick={() => setShown({ ...shown, most: most + PAGE })}>
          Show {Math.min(PAGE, left)} more of {left}
        </button>
      )}
    </>
  );
}

function Legend() {
  return (
    <p class="legend">
      <span class="token safe">safe</span>
      <span class="token controversial">controversial</span>
      <span class="token unsafe">unsafe</span>
      <span>the stronger the colour, the surer</span>
      {data.type === "response" && (
        <>
          <span>
            <span class="token safe span">marked</span> annotated as unsafe
          </span>
          <span>
            <span class="token unsafe fired">framed</span> where the guard fired
          </span>
        </>
      )}
      <span>point at a token, or go to it by keys, for its probabilities</span>
    </p>
  );
}

/** The bars above choose which delays are shown below. */
function useHistogram(delay: Delay | null, onChange: (delay: Delay | null) => void): void {
  useEffect(() => {
    const bars = [...document.querySelectorAll<HTMLElement>(".histogram button")];
    const press = (event: Event) => {
      const own = (event.currentTarget as HTMLElement).dataset.delay as Delay;
      onChange(delay === own ? null : own);
    };
    for (const bar of bars) {
      bar.setAttribute("aria-pressed", String(bar.dataset.delay === delay));
      bar.addEventListener("click", press);
    }
    return () => {
      for (const bar of bars) bar.removeEventListener("click", press);
    };
  });
}

function outcomeOf(row: ReportRow, reading: Shown["reading"]): Outcome {
  const flagged = reading === "strict" ? row.found !== "safe" : row.found === "unsafe";
  if (row.unsafe[reading]) return flagged ? "caught" : "missed";
  return flagged ? "alarm" : "passed";
}

render(
  <>
    <Conversations />
    <Tip />
  </>,
  document.getElementById("rows") as HTMLElement,
);
