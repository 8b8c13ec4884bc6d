import { useMemo, useRef } from "preact/hooks";
import type { PolicyData } from "../../moderation/policy.js";
import { Chart, type Place } from "../components/chart.js";
import { harmfulLabels, milliseconds, percent, type RiskLabel } from "../components/severity.js";
import { percentile, type Ruled } from "./ruled.js";
import type { Strings } from "./strings.js";

interface Props {
  ruled: Ruled;
  labels: readonly string[];
  policy: PolicyData;
  s: Strings;
  cursor: number | null;
  onCursor(index: number | null): void;
  onThreshold(label: string, value: number | undefined): void;
}

/** Risks over the tokens, with the policy's thresholds as lines to drag. */
export function RiskChart({ ruled, labels, policy, s, cursor, onCursor, onThreshold }: Props) {
  const harmful = useMemo(() => harmfulLabels(labels), [labels]);
  const series = useMemo(
    () =>
      harmful.map(({ label, index, severity }) => ({
        label: `P(${label})`,
        color: `--${severity}`,
        dash: severity === "controversial" ? [6, 4] : undefined,
        values: ruled.verdicts.map(({ probabilities }) => probabilities.risk[index]),
      })),
    [harmful, ruled.verdicts],
  );
  const thresholds = policy.response?.thresholds ?? policy.thresholds ?? {};
  return (
    <section class="card" aria-labelledby="risks">
      <h2 id="risks">{s.risks}</h2>
      <p class="key">
        {harmful.map(({ label, severity }) => (
          <span key={label} class={`swatch ${severity}`}>
            P({label})
          </span>
        ))}
      </p>
      <Chart
        series={series}
        range={[0, 1]}
        height={190}
        format={(value) => value.toFixed(1)}
        label={s.risks}
        cursor={cursor}
        onCursor={onCursor}
        over={(place) =>
          harmful.map((label) => (
            <Threshold
              key={label.label}
              label={label}
              value={thresholds[label.label]}
              place={place}
              s={s}
              onChange={(value) => onThreshold(label.label, value)}
            />
          ))
        }
      />
    </section>
  );
}

interface ThresholdProps {
  label: RiskLabel;
  value: number | undefined;
  place: Place;
  s: Strings;
  onChange(value: number | undefined): void;
}

/** A line to drag; keys move it too, and Delete takes it away. */
function Threshold({ label: { label, severity }, value, place, s, onChange }: ThresholdProps) {
  const dragging = useRef(false);
  const shown = value ?? 0.5;
  const set = (next: number) => onChange(Math.round(Math.min(1, Math.max(0, next)) * 100) / 100);
  const drag = (event: PointerEvent) => {
    if (!dragging.current) return;
    const chart = (event.currentTarget as HTMLElement).parentElement as HTMLElement;
    const y = event.clientY - chart.getBoundingClientRect().top - place.top;
    set(1 - y / place.height);
  };
  const press = (event: KeyboardEvent) => {
    const step = { ArrowUp: 0.01, ArrowDown: -0.01, PageUp: 0.1, PageDown: -0.1 }[event.key];
    if (step !== undefined) set(shown + step);
    else if (event.key === "Delete" || event.key === "Backspace") onChange(undefined);
    else return;
    event.preventDefault();
  };
  return (
    <div
      class={`threshold ${severity} ${value === undefined ? "unset" : ""}`}
      style={{ top: `${place.top + (1 - shown) * place.height}px`, left: `${place.left}px` }}
      role="slider"
      tabIndex={0}
      aria-label={`${s.threshold} ${label}`}
      aria-valuemin={0}
      aria-valuemax={1}
      aria-valuenow={shown}
      aria-valuetext={value === undefined ? s.notSet : String(value)}
      onPointerDown={(event) => {
        dragging.current = true;
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={drag}
      onPointerUp={() => {
        dragging.current = false;
      }}
      onKeyDown={press}
    >
      <span>
        {s.threshold} {label}: {value === undefined ? s.notSet : percent(value)}
      </span>
    </div>
  );
}

/** How long chunks waited for their verdicts. */
export function LatencyChart({ ruled, s }: { ruled: Ruled; s: Strings }) {
  const { latencies } = ruled;
  const series = useMemo(() => [{ label: s.latency, color: "--accent", values: latencies }], [latencies, s]);
  const figure = (share: number) => {
    const value = percentile(latencies, share);
    return value === null ? "–" : milliseconds(value);
  };
  return (
    <section class="card" aria-labelledby="latency">
      <h2 id="latency">{s.latency}</h2>
      <p class="numbers">
        <b>{s.p50}</b> {figure(0.5)} · <b>{s.p99}</b> {figure(0.99)} · <b>{ruled.behind}</b> {s.behind} (
        {s.peak} {ruled.peakBehind})
        {ruled.promptAt !== null && (
          <>
            {" "}
            · {s.promptAfter} <b>{milliseconds(ruled.promptAt)}</b>
          </>
        )}
      </p>
      <Chart
        series={series}
        height={110}
        format={(value) => `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`}
        label={s.latency}
        cursor={null}
        onCursor={() => {}}
      />
    </section>
  );
}
