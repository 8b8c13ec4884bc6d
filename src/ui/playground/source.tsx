import { useState } from "preact/hooks";
import type { Turn } from "../../playground/protocol.js";
import type { Strings } from "./strings.js";

/** What the form holds, also of the ways that are not chosen. */
export interface SourceForm {
  from: "text" | "endpoint" | "rows";
  text: string;
  perSecond: number;
  kind: "openai" | "ollama";
  url: string;
  model: string;
  key: string;
}

/** A conversation out of a file. */
export interface LoadedRow {
  messages: Turn[];
  answer: string;
}

interface Props {
  form: SourceForm;
  s: Strings;
  onChange(changes: Partial<SourceForm>): void;
  onRow(row: LoadedRow): void;
}

const PACES = [0, 2, 5, 10, 20, 50, 100, 200];

/** Where the answer comes from. */
export function Source({ form, s, onChange, onRow }: Props) {
  const ways = { text: s.fromText, endpoint: s.fromEndpoint, rows: s.fromRows };
  return (
    <section class="card" aria-labelledby="source">
      <h2 id="source">{s.answerFrom}</h2>
      <div class="choices">
        {Object.entries(ways).map(([way, name]) => (
          <label key={way}>
            <input
              type="radio"
              name="from"
              value={way}
              checked={form.from === way}
              onChange={() => onChange({ from: way as SourceForm["from"] })}
            />
            {name}
          </label>
        ))}
      </div>
      {form.from === "rows" && <Rows s={s} onRow={onRow} />}
      {form.from === "endpoint" ? (
        <Endpoint form={form} s={s} onChange={onChange} />
      ) : (
        <>
          <textarea
            rows={7}
            aria-label={s.answerText}
            value={form.text}
            onInput={({ currentTarget }) => onChange({ text: currentTarget.value })}
          />
          <label class="field">
            {s.pace}
            <input
              type="range"
              min={0}
              max={PACES.length - 1}
              value={Math.max(0, PACES.indexOf(form.perSecond))}
              aria-valuetext={form.perSecond === 0 ? s.atOnce : String(form.perSecond)}
              onInput={({ currentTarget }) => onChange({ perSecond: PACES[Number(currentTarget.value)] })}
            />
            <output>{form.perSecond === 0 ? s.atOnce : form.perSecond}</output>
          </label>
        </>
      )}
    </section>
  );
}

function Endpoint({ form, s, onChange }: Omit<Props, "onRow">) {
  return (
    <>
      <label class="field">
        {s.kind}
        <select
          value={form.kind}
          onChange={({ currentTarget }) => onChange({ kind: currentTarget.value as SourceForm["kind"] })}
        >
          <option value="openai">OpenAI</option>
          <option value="ollama">Ollama</option>
        </select>
      </label>
      <label class="field">
        {s.address}
        <input
          type="url"
          placeholder={form.kind === "ollama" ? "http://127.0.0.1:11434" : "http://127.0.0.1:8000/v1"}
          value={form.url}
          onInput={({ currentTarget }) => onChange({ url: currentTarget.value })}
        />
      </label>
      <label class="field">
        {s.model}
        <input value={form.model} onInput={({ currentTarget }) => onChange({ model: currentTarget.value })} />
      </label>
      <label class="field">
        {s.key}
        <input
          type="password"
          autocomplete="off"
          value={form.key}
          onInput={({ currentTarget }) => onChange({ key: currentTarget.value })}
        />
      </label>
      <p class="note">{s.keyNote}</p>
    </>
  );
}

function Rows({ s, onRow }: Pick<Props, "s" | "onRow">) {
  const [rows, setRows] = useState<LoadedRow[] | null>(null);
  const [at, setAt] = useState(0);
  const show = (list: LoadedRow[], index: number) => {
    setAt(index);
    if (list[index]) onRow(list[index]);
  };
  const read = async (file: File | undefined) => {
    if (!file) return;
    const list = readRows(await file.text());
    setRows(list);
    show(list, 0);
  };
  return (
    <>
      <input
        type="file"
        accept=".jsonl,.json,.ndjson"
        aria-label={s.file}
        onChange={({ currentTarget }) => void read(currentTarget.files?.[0])}
      />
      <p class="note">{rows?.length === 0 ? s.wrongFile : s.file}</p>
      {rows && rows.length > 0 && (
        <div class="stepper">
          <button type="button" disabled={at === 0} onClick={() => show(rows, at - 1)}>
            ‹ {s.previous}
          </button>
          <span>
            {s.row} {at + 1} {s.of} {rows.length}
          </span>
          <button type="button" disabled={at === rows.length - 1} onClick={() => show(rows, at + 1)}>
            {s.next} ›
          </button>
        </div>
      )}
    </>
  );
}

/** The rows that hold a conversation; others are left out. */
export function readRows(text: string): LoadedRow[] {
  return text.split("\n").flatMap((line): LoadedRow[] => {
    try {
      const row = JSON.parse(line);
      const turns: Turn[] = (row.message ?? row.messages).map(({ role, content }: Turn) => ({
        role: role === "system" || role === "assistant" ? role : "user",
        content: String(content ?? ""),
      }));
      const last = turns.at(-1);
      if (!last) return [];
      return last.role === "assistant" && turns.length > 1
        ? [{ messages: turns.slice(0, -1), answer: last.content }]
        : [{ messages: turns, answer: "" }];
    } catch {
      return [];
    }
  });
}
