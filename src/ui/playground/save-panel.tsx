import { useState } from "preact/hooks";
import type { Turn } from "../../playground/protocol.js";
import { download, evalRow } from "./save.js";
import type { Strings } from "./strings.js";

interface Props {
  messages: readonly Turn[];
  answer: string;
  labels: readonly string[];
  s: Strings;
  onPage(): string;
}

/** What was judged, to keep: as a row of a dataset, or as a page. */
export function SavePanel({ messages, answer, labels, s, onPage }: Props) {
  const [label, setLabel] = useState(labels[0]);
  const disabled = messages.length === 0;
  return (
    <section class="card buttons">
      <label class="field">
        {s.label}
        <select value={label} onChange={({ currentTarget }) => setLabel(currentTarget.value)}>
          {labels.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      <button
        type="button"
        disabled={disabled}
        onClick={() => download("row.jsonl", "application/x-ndjson", evalRow(messages, answer, label))}
      >
        {s.saveRow}
      </button>
      <button
        type="button"
        disabled={disabled}
        onClick={() => download("qwen3guard-playground.html", "text/html", onPage())}
      >
        {s.savePage}
      </button>
    </section>
  );
}
