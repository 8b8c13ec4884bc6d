import type { Severity } from "../../moderation/labels.js";
import type { Delay } from "../delay.js";
import type { EvaluationType } from "../row.js";

/** One conversation on the page. Positions count tokens of the whole templated conversation. */
export interface ReportRow {
  line: number;
  label: Severity;
  /** Whether the annotation counts as unsafe, by reading. */
  unsafe: { strict: boolean; loose: boolean };
  found: Severity;
  /** Position where the guard fired. */
  flagged: number | null;
  delay: Delay | null;
  /** First and last position of the annotated stretch. */
  span: readonly [number, number] | null;
  /** Position of the first token judged. */
  start: number;
  source: string | null;
  category: string | null;
  lang: string | null;
  messages: { role: string; content: string }[];
  /** Places in `labels`, one a token judged. */
  levels: number[];
  /** Of those labels, 0 to 1. */
  probabilities: number[];
  /** Places in `categories`. */
  categories: number[];
  /** Places in `texts`; empty for prompts, which have one verdict. */
  texts: number[];
}

/** What the page's script draws. */
export interface ReportData {
  type: EvaluationType;
  labels: { name: string; severity: Severity }[];
  categories: string[];
  texts: string[];
  rows: ReportRow[];
}
