import { useEffect, useRef } from "preact/hooks";
import type { ReportData, ReportRow } from "../../evaluation/report/data.js";
import { cssColor } from "../components/color.js";

/** The whole response as a bar: risks in colour, the annotated stretch below, the place where the guard fired above. */
export function Strip({ row, data }: { row: ReportRow; data: ReportData }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const count = row.levels.length;
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const draw = () => paint(canvas.current as HTMLCanvasElement, row, data);
    draw();
    dark.addEventListener("change", draw);
    return () => dark.removeEventListener("change", draw);
  }, [row, data]);
  const share = (position: number) => `${(100 * (position - row.start)) / count}%`;
  const { span } = row;
  const from = span && Math.max(row.start, span[0]);
  return (
    <div class="strip">
      <canvas ref={canvas} width={count} height={1} />
      {span && from !== null && span[1] >= row.start && (
        <div
          class="mark"
          style={{ left: share(from), width: `calc(${share(span[1] + 1)} - ${share(from)})` }}
        />
      )}
      {row.flagged !== null && <div class="flag" style={{ left: share(row.flagged + 0.5) }} />}
    </div>
  );
}

function paint(canvas: HTMLCanvasElement, row: ReportRow, { labels }: ReportData): void {
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  context.clearRect(0, 0, canvas.width, 1);
  for (const [index, level] of row.levels.entries()) {
    const { severity } = labels[level];
    context.globalAlpha = severity === "safe" ? 0.25 : 0.35 + 0.65 * row.probabilities[index];
    context.fillStyle = cssColor(canvas, `var(--${severity})`);
    context.fillRect(index, 0, 1, 1);
  }
}
