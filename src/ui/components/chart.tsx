import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { cssColor } from "./color.js";

export interface Series {
  label: string;
  /** Name of a CSS variable. */
  color: string;
  /** Told apart without colours. */
  dash?: number[];
  values: readonly number[];
}

interface Props {
  series: readonly Series[];
  /** Fixed range of the values; by the data where it is left out. */
  range?: [number, number];
  height: number;
  format(value: number): string;
  /** What is said to who cannot see it. */
  label: string;
  /** Marks a token. */
  cursor: number | null;
  onCursor(index: number | null): void;
  /** What lies over the plot; it gets its place in pixels. */
  over?: (plot: Place) => preact.ComponentChildren;
}

/** Where values are drawn within a chart, in CSS pixels. */
export interface Place {
  left: number;
  top: number;
  width: number;
  height: number;
}

const AXIS_WIDTH = 64;
const AXIS_HEIGHT = 32;
const PADDING = 8;

/** Lines over the tokens of an answer. */
export function Chart({ series, range, height, format, label, cursor, onCursor, over }: Props) {
  const root = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const report = useRef(onCursor);
  report.current = onCursor;
  const count = Math.max(0, ...series.map(({ values }) => values.length));

  useEffect(() => {
    const element = root.current as HTMLDivElement;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(element, { series, range, height, format }, report), [[]], element);
      draw();
    };
    const draw = () => plot.current?.setData(dataOf(series, count));
    make();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height }));
    resized.observe(element);
    dark.addEventListener("change", make);
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", make);
      plot.current?.destroy();
      plot.current = null;
    };
    // Only what the chart is made of makes it anew; data is set below.
  }, [height, series.length]);

  useEffect(() => plot.current?.setData(dataOf(series, count)), [series, count]);

  useEffect(() => {
    const chart = plot.current;
    if (!chart || cursor === null) return;
    const left = chart.valToPos(cursor, "x");
    if (Number.isFinite(left)) chart.setCursor({ left, top: -10 }, false);
  }, [cursor]);

  return (
    <div class="chart" style={{ height: `${height}px` }}>
      <div ref={root} role="img" aria-label={label} />
      {over?.({ left: AXIS_WIDTH, top: PADDING, width: 0, height: height - AXIS_HEIGHT - PADDING })}
    </div>
  );
}

function dataOf(series: readonly Series[], count: number): uPlot.AlignedData {
  return [Array.from({ length: count }, (_, i) => i), ...series.map(({ values }) => [...values])];
}

function options(
  element: HTMLElement,
  { series, range, height, format }: Pick<Props, "series" | "range" | "height" | "format">,
  report: { current: (index: number | null) => void },
): uPlot.Options {
  const color = (name: string) => cssColor(element, `var(${name})`);
  const grid = { stroke: color("--line"), width: 1 };
  return {
    width: element.clientWidth,
    height,
    padding: [PADDING, PADDING, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: {
      x: { time: false, range: (_, min, max) => [min ?? 0, Math.max(8, max ?? 0)] },
      y: range ? { range } : {},
    },
    axes: [
      {
        stroke: color("--faint"),
        grid,
        size: AXIS_HEIGHT,
        incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
      },
      { stroke: color("--faint"), grid, size: AXIS_WIDTH, values: (_, values) => values.map(format) },
    ],
    series: [
      {},
      ...series.map(({ label, color: name, dash }) => ({
        label,
        stroke: color(name),
        width: 2,
        ...(dash && { dash }),
        points: { show: false },
      })),
    ],
    hooks: {
      setCursor: [
        (chart) => {
          if (chart.cursor.event) report.current(chart.cursor.idx ?? null);
        },
      ],
    },
  };
}
