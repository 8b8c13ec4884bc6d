/**
 * Draws what the demo prints on a terminal: npx tsx scripts/demo/picture.ts > docs/demo.svg
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const COLUMNS = 92;
const CHARACTER = 8.4;
const LINE = 19;
const MARGIN = 18;
const FILL: Record<string, string> = { "31": "#ff6b6b", "32": "#7bd88f", "33": "#ffd866" };

interface Cell {
  text: string;
  color: string;
  bold: boolean;
  dim: boolean;
}

const output = execFileSync(process.execPath, [fileURLToPath(new URL("demo.mjs", import.meta.url))], {
  encoding: "utf8",
  env: { ...process.env, FORCE_COLOR: "1" },
});
process.stdout.write(draw(wrap(parse(output.trim()))));

/** Splits terminal output into characters with their look. */
function parse(text: string): Cell[] {
  const cells: Cell[] = [];
  const look = { color: "#e6e6e6", bold: false, dim: false };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: an escape is what starts a colour
  for (const [part, code] of text.matchAll(/\x1b\[(\d+)m|[^\x1b]/gu)) {
    if (code === undefined) cells.push({ text: part, ...look });
    else if (code === "1") look.bold = true;
    else if (code === "2") look.dim = true;
    else if (code === "22") look.bold = look.dim = false;
    else look.color = FILL[code] ?? "#e6e6e6";
  }
  return cells;
}

/** Breaks lines at words, as a reader would want them. */
function wrap(cells: Cell[]): Cell[][] {
  const lines: Cell[][] = [[]];
  for (const cell of cells) {
    const line = lines.at(-1) as Cell[];
    if (cell.text === "\n") lines.push([]);
    else if (line.length < COLUMNS) line.push(cell);
    else {
      const space = line.findLastIndex(({ text }) => text === " ");
      lines.push(space < 0 ? [cell] : [...line.splice(space + 1), cell]);
    }
  }
  return lines;
}

function draw(lines: Cell[][]): string {
  const width = COLUMNS * CHARACTER + 2 * MARGIN;
  const height = lines.length * LINE + 2 * MARGIN;
  const rows = lines.map((line, row) => {
    const y = MARGIN + (row + 0.75) * LINE;
    return `<text x="${MARGIN}" y="${y}" xml:space="preserve">${spans(line)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">
<rect width="100%" height="100%" rx="10" fill="#1e1f29"/>
${rows.join("\n")}
</svg>
`;
}

/** Neighbours that look alike share a tspan. */
function spans(line: Cell[]): string {
  let svg = "";
  for (let i = 0; i < line.length; ) {
    const { color, bold, dim } = line[i];
    let text = "";
    for (; i < line.length && line[i].color === color && line[i].bold === bold && line[i].dim === dim; i++) {
      text += line[i].text;
    }
    const weight = bold ? ' font-weight="bold"' : "";
    svg += `<tspan fill="${color}"${weight}${dim ? ' opacity="0.6"' : ""}>${escaped(text)}</tspan>`;
  }
  return svg;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
