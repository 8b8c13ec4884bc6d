import { type Severity, severityOf } from "../../moderation/labels.js";

/** A label that is not safe, and its place among the model's labels. */
export interface RiskLabel {
  label: string;
  index: number;
  severity: Exclude<Severity, "safe">;
}

export function harmfulLabels(labels: readonly string[]): RiskLabel[] {
  return labels.flatMap((label, index) => {
    const severity = severityOf(label);
    return severity === "safe" ? [] : [{ label, index, severity }];
  });
}

export function percent(probability: number): string {
  return `${(100 * probability).toFixed(1)} %`;
}

export function milliseconds(ms: number): string {
  return ms < 10
    ? `${ms.toFixed(1)} ms`
    : ms < 10_000
      ? `${Math.round(ms)} ms`
      : `${(ms / 1000).toFixed(1)} s`;
}
