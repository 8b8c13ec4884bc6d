/** A chart as SVG text, plain enough to read in a diff. */
export interface Line {
  name: string;
  points: [x: number, y: number][];
}

const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [760, 420, 60, 50, 40, 150];

/** Lines over a logarithmic x axis, y from 0, or logarithmic too. */
export function lineChart(
  title: string,
  xLabel: string,
  yLabel: string,
  lines: Line[],
  { logarithmic = false } = {},
): string {
  const xs = [...new Set(lines.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
  const highest = Math.max(...lines.flatMap(({ points }) => points.map(([, y]) => y)));
  const [low, high] = [Math.log(xs[0]), Math.log(xs.at(-1) as number)];
  const x = (value: number) =>
    LEFT + ((Math.log(value) - low) / Math.max(1e-9, high - low)) * (WIDTH - LEFT - RIGHT);
  const lowest = logarithmic ? Math.min(...lines.flatMap(({ points }) => points.map(([, y]) => y))) / 1.5 : 0;
  const part = (value: number) =>
    logarithmic ? Math.log(value / lowest) / Math.log(highest / lowest) : value / highest;
  const y = (value: number) => HEIGHT - BOTTOM - part(value) * (HEIGHT - BOTTOM - TOP);
  const body = xs.map((value) => text(x(value), HEIGHT - BOTTOM + 18, String(value), "middle"));
  for (const value of logarithmic ? logTicks(lowest, highest) : ticks(highest)) {
    body.push(`<path d="M${LEFT} ${y(value).toFixed(1)}H${WIDTH - RIGHT}" stroke="#ddd"/>`);
    body.push(text(LEFT - 6, y(value) + 4, String(value), "end"));
  }
  lines.forEach(({ name, points }, i) => {
    const color = COLORS[i % COLORS.length];
    const path = points.map(([px, py]) => `${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join("L");
    body.push(`<path d="M${path}" fill="none" stroke="${color}" stroke-width="2"/>`);
    for (const [px, py] of points) {
      body.push(`<circle cx="${x(px).toFixed(1)}" cy="${y(py).toFixed(1)}" r="3" fill="${color}"/>`);
    }
    body.push(
      `<rect x="${WIDTH - RIGHT + 14}" y="${TOP + i * 20}" width="12" height="12" fill="${color}"/>`,
      text(WIDTH - RIGHT + 32, TOP + i * 20 + 11, name, "start"),
    );
  });
  body.push(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, xLabel, "middle"));
  return frame(title, yLabel, WIDTH, HEIGHT, body);
}

/** Horizontal bars over a logarithmic axis, longest first. */
export function barChart(title: string, label: string, bars: [name: string, value: number][]): string {
  const sorted = [...bars].sort(([, a], [, b]) => b - a);
  const height = 70 + sorted.length * 26;
  const lowest = Math.log(Math.min(...bars.map(([, value]) => value)) / 2);
  const highest = Math.log(sorted[0][1]);
  const body = sorted.flatMap(([name, value], i) => {
    const width = ((Math.log(value) - lowest) / (highest - lowest)) * 380;
    const top = 50 + i * 26;
    return [
      text(250, top + 14, name, "end"),
      `<rect x="258" y="${top}" width="${width.toFixed(1)}" height="18" fill="${COLORS[0]}"/>`,
      text(264 + width, top + 14, `${value} ms`, "start"),
    ];
  });
  return frame(title, label, WIDTH, height, body);
}

/** Where something lies: a point, or from a usual value to a bad one. */
export interface Range {
  name: string;
  /** Starts a group of its own. */
  group?: string;
  from: number;
  to: number;
  color: number;
}

/** Ranges over a logarithmic axis, each a dot at `from` and a line to `to`, with both as text. */
export function rangeChart(title: string, label: string, ranges: Range[], legend: string[]): string {
  const [left, right, row] = [260, 110, 22];
  const lowest = Math.max(0.05, Math.min(...ranges.map(({ from }) => from)) / 1.5);
  const highest = Math.max(...ranges.map(({ to }) => to)) * 1.2;
  const x = (value: number) => {
    const clamped = Math.max(lowest, value);
    return left + (Math.log(clamped / lowest) / Math.log(highest / lowest)) * (WIDTH - left - right);
  };
  const body: string[] = legend.flatMap((name, i) => [
    `<circle cx="${left + i * 150}" cy="54" r="5" fill="${COLORS[i]}"/>`,
    text(left + 10 + i * 150, 58, name, "start"),
  ]);
  let top = 70;
  const rows: string[] = [];
  for (const { name, group, from, to, color } of ranges) {
    if (group) {
      top += 10;
      rows.push(`<text x="12" y="${top + 15}" font-weight="bold">${escapeXml(group)}</text>`);
    }
    const y = top + 11;
    const [start, end] = [x(from).toFixed(1), x(to).toFixed(1)];
    rows.push(
      text(left - 10, y + 4, name, "end"),
      `<path d="M${start} ${y}H${end}" stroke="${COLORS[color]}" stroke-width="3"/>`,
      `<circle cx="${start}" cy="${y}" r="5" fill="${COLORS[color]}"/>`,
      text(x(to) + 10, y + 4, `${short(from)} – ${short(to)}`, "start"),
    );
    top += row;
  }
  const grid = logTicks(lowest, highest).flatMap((value) => [
    `<path d="M${x(value).toFixed(1)} 66V${top}" stroke="#ddd"/>`,
    text(x(value), top + 16, String(value), "middle"),
  ]);
  return frame(title, label, WIDTH, top + 30, [...grid, ...body, ...rows]);
}

function short(value: number): string {
  return value < 1 ? value.toFixed(2) : String(Number(value.toPrecision(3)));
}

/** 1, 2, 5, 10, … between two numbers; only the powers of ten where that would be many. */
function logTicks(lowest: number, highest: number): number[] {
  const decades = Math.log10(highest / lowest);
  const steps = decades > 3 ? [1] : [1, 2, 5];
  const all: number[] = [];
  for (let power = Math.floor(Math.log10(lowest)); power <= Math.log10(highest); power++) {
    for (const step of steps) all.push(Number((step * 10 ** power).toPrecision(1)));
  }
  return all.filter((value) => value >= lowest && value <= highest);
}

function ticks(highest: number): number[] {
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000].find(
    (s) => highest / s <= 6,
  ) as number;
  return Array.from({ length: Math.floor(highest / step) + 1 }, (_, i) => i * step);
}

function frame(title: string, label: string, width: number, height: number, body: string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="12" y="20" font-size="14" font-weight="bold">${escapeXml(title)}</text>`,
    `<text x="12" y="36" fill="#555">${escapeXml(label)}</text>`,
    ...body,
    "</svg>",
    "",
  ].join("\n");
}

function text(x: number, y: number, content: string, anchor: string): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escapeXml(content)}</text>`;
}

function escapeXml(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
