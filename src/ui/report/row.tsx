import { useState } from "preact/hooks";
import type { Delay } from "../../evaluation/delay.js";
import type { ReportData, ReportRow } from "../../evaluation/report/data.js";
import type { Severity } from "../../moderation/labels.js";
import { percent } from "../components/severity.js";
import { type ShownToken, Tokens } from "../components/tokens.js";
import { Strip } from "./strip.js";

interface Props {
  row: ReportRow;
  data: ReportData;
  kind: string;
  name: string;
}

/** One conversation, with what people and guard said of it. */
export function Row({ row, data, kind, name }: Props) {
  const [selected, setSelected] = useState<number | null>(null);
  const response = data.type === "response";
  const judged = response
    ? row.messages.length - 1
    : row.messages.map(({ role }) => role).lastIndexOf("user");
  const tags = [row.source, row.category, row.lang].filter(Boolean).join(" · ");
  return (
    <article class="row card">
      <header>
        <span class="line">#{row.line}</span>
        <span class={`badge ${kind}`}>{name}</span>
        <span>
          annotated <Risk severity={row.label} />
        </span>
        <span>
          found <Risk severity={row.found} />
          {response && row.flagged !== null && ` from token ${row.flagged - row.start} of the response`}
        </span>
        {row.delay !== null && <span>{delayText(row.delay)}</span>}
        {tags && <span class="tags">{tags}</span>}
      </header>
      {response && <Strip row={row} data={data} />}
      {row.messages.slice(0, judged + 1).map(({ role, content }, index) => (
        <section class="turn" key={index}>
          <div class="role">{role}</div>
          <div class="content">
            {index === judged ? (
              <Tokens
                tokens={response ? responseTokens(row, data) : [promptToken(row, data, content)]}
                selected={selected}
                onSelect={setSelected}
                label={`${role}, judged`}
              />
            ) : (
              content
            )}
          </div>
        </section>
      ))}
    </article>
  );
}

function Risk({ severity }: { severity: Severity }) {
  return <span class={`risk ${severity}`}>{severity[0].toUpperCase() + severity.slice(1)}</span>;
}

function delayText(delay: Delay): string {
  if (delay === "hit") return "inside the annotated sentence";
  if (delay === "ahead") return "ahead of the annotated sentence";
  return delay === "missed" ? "never flagged" : `${delay} tokens late`;
}

function promptToken(row: ReportRow, data: ReportData, content: string): ShownToken {
  return { text: content, ...verdict(row, data, 0) };
}

function responseTokens(row: ReportRow, data: ReportData): ShownToken[] {
  return row.texts.map((text, index) => {
    const position = row.start + index;
    const marked = row.span !== null && position >= row.span[0] && position <= row.span[1];
    const fired = position === row.flagged;
    const notes = [`token ${index}, position ${position}`];
    if (marked) notes.push("annotated as unsafe");
    if (fired) notes.push("the guard fired here");
    const own = verdict(row, data, index);
    const note = notes.join("\n");
    return { text: data.texts[text], ...own, tip: `${own.tip}\n${note}`, note, marked, fired };
  });
}

function verdict(row: ReportRow, data: ReportData, index: number) {
  const { name, severity } = data.labels[row.levels[index]];
  const category = severity === "safe" ? "" : `\n${data.categories[row.categories[index]]}`;
  const probability = row.probabilities[index];
  return { risk: name, probability, tip: `${name} ${percent(probability)}${category}` };
}
