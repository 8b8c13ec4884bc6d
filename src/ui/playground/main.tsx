import { render } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import type { GuardConfig } from "../../model/config.js";
import { type Policy, type PolicyData, resolvePolicy } from "../../moderation/policy.js";
import type { Example, PageData, RunEvent, Turn } from "../../playground/protocol.js";
import { Answer, Readers } from "./answer.js";
import { LatencyChart, RiskChart } from "./charts.js";
import { Conversation } from "./conversation.js";
import { GuardPanel } from "./guard-panel.js";
import { PolicyPanel } from "./policy-panel.js";
import { ruleRun } from "./ruled.js";
import { runOn } from "./run-client.js";
import { download, evalRow, savedPage } from "./save.js";
import { Source, type SourceForm } from "./source.js";
import { LANGUAGES, type Language } from "./strings.js";
import "uplot/dist/uPlot.min.css";
import "../style.css";
import "./playground.css";

const data: PageData = JSON.parse(document.getElementById("data")?.textContent as string);

/** What came last is drawn with the screen's next frame: many tokens may come within one. */
function useEvents(first: RunEvent[]): [RunEvent[], (events: RunEvent[]) => void, () => void] {
  const [events, setEvents] = useState(first);
  const came = useRef<RunEvent[]>([]);
  const frame = useRef(0);
  const draw = () => {
    frame.current = 0;
    const added = came.current.splice(0);
    setEvents((before) => [...before, ...added]);
  };
  const add = (added: RunEvent[]) => {
    came.current.push(...added);
    frame.current ||= requestAnimationFrame(draw);
  };
  const clear = () => {
    came.current = [];
    setEvents([]);
  };
  return [events, add, clear];
}

/** A policy that can be ruled by, or what is wrong with it. */
function usePolicy(policy: PolicyData): { resolved: Policy | null; problem: string | null } {
  return useMemo(() => {
    try {
      return { resolved: resolvePolicy(policy, data.guard.labels as GuardConfig["labels"]), problem: null };
    } catch (error) {
      return { resolved: null, problem: (error as Error).message };
    }
  }, [policy]);
}

function App() {
  const { recording, guard, examples } = data;
  const live = recording === null;
  const [language, setLanguage] = useState<Language>(navigator.language.startsWith("zh") ? "zh" : "en");
  const s = LANGUAGES[language];
  const [turns, setTurns] = useState<Turn[]>(recording?.messages ?? examples[2].messages);
  const [form, setForm] = useState<SourceForm>({
    from: "text",
    text: examples[2]?.response ?? "",
    perSecond: 20,
    kind: "openai",
    url: "",
    model: "",
    key: "",
  });
  const [policy, setPolicy] = useState<PolicyData>(recording?.policy ?? {});
  const [selected, setSelected] = useState<number | null>(null);
  const [running, setRunning] = useState<AbortController | null>(null);
  const [asked, setAsked] = useState<Turn[]>(recording?.messages ?? []);
  const [events, addEvents, clearEvents] = useEvents(recording?.events ?? []);
  const { resolved, problem } = usePolicy(policy);
  const ruled = useMemo(() => ruleRun(events, resolved), [events, resolved]);

  const pick = (example: Example) => {
    setTurns(example.messages);
    setForm({ ...form, text: example.response, from: form.from === "endpoint" ? "endpoint" : "text" });
  };
  const start = async () => {
    running?.abort();
    const controller = new AbortController();
    setRunning(controller);
    setSelected(null);
    setAsked(turns);
    clearEvents();
    const source =
      form.from === "endpoint"
        ? { kind: form.kind, url: form.url, model: form.model, key: form.key }
        : { kind: "text" as const, text: form.text, perSecond: form.perSecond };
    try {
      await runOn({ messages: turns, source }, addEvents, controller.signal);
    } catch (error) {
      if (!controller.signal.aborted) {
        const message = error instanceof TypeError ? s.lost : (error as Error).message;
        addEvents([{ type: "failed", at: 0, code: "PLAYGROUND", message }]);
      }
    }
    setRunning((now) => (now === controller ? null : now));
  };
  const stop = () => {
    running?.abort();
    setRunning(null);
  };
  const keys = (event: KeyboardEvent) => {
    if (live && event.key === "Enter" && (event.ctrlKey || event.metaKey)) void start();
  };
  const setThreshold = (label: string, value: number | undefined) => {
    const { [label]: _, ...others } = policy.thresholds ?? {};
    const thresholds = value === undefined ? others : { ...others, [label]: value };
    const { thresholds: __, ...rest } = policy;
    setPolicy(Object.keys(thresholds).length > 0 ? { ...rest, thresholds } : rest);
  };

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: Ctrl+Enter runs from every field
    <div class="page" lang={language} onKeyDown={keys}>
      <header>
        <h1>{s.title}</h1>
        <button type="button" onClick={() => setLanguage(language === "en" ? "zh" : "en")}>
          {s.language}
        </button>
      </header>
      {!live && <p class="card notice">{s.saved}</p>}
      <main>
        <div class="column left">
          {live ? (
            <>
              <Conversation
                turns={turns}
                examples={examples}
                language={language}
                s={s}
                onChange={setTurns}
                onPick={pick}
              />
              <Source
                form={form}
                s={s}
                onChange={(changes) => setForm({ ...form, ...changes })}
                onRow={({ messages, answer }) => {
                  setTurns(messages);
                  setForm({ ...form, from: "rows", text: answer });
                }}
              />
            </>
          ) : (
            <Turns turns={asked} />
          )}
        </div>
        <div class="column middle">
          {live && (
            <div class="buttons run">
              <button type="button" class="primary" onClick={() => void start()}>
                ▶ {s.run}
              </button>
              <button type="button" disabled={!running} onClick={stop}>
                ■ {s.stop}
              </button>
            </div>
          )}
          <Answer ruled={ruled} labels={guard.labels} s={s} selected={selected} onSelect={setSelected} />
          <Readers ruled={ruled} s={s} />
          <RiskChart
            ruled={ruled}
            labels={guard.labels.responseRisk}
            policy={policy}
            s={s}
            cursor={selected}
            onCursor={setSelected}
            onThreshold={setThreshold}
          />
          <LatencyChart ruled={ruled} s={s} />
        </div>
        <div class="column right">
          <PolicyPanel policy={policy} problem={problem} labels={guard.labels} s={s} onChange={setPolicy} />
          <Save
            language={language}
            messages={asked}
            answer={events.map((event) => (event.type === "chunk" ? event.text : "")).join("")}
            onPage={() =>
              savedPage({ ...data, examples: [], recording: { messages: asked, events, policy } })
            }
          />
          <GuardPanel guard={guard} live={live} s={s} />
        </div>
      </main>
    </div>
  );
}

function Turns({ turns }: { turns: readonly Turn[] }) {
  return (
    <section class="card">
      {turns.map((turn, i) => (
        <div class="turn" key={i}>
          <div class="role">{turn.role}</div>
          <div class="content">{turn.content}</div>
        </div>
      ))}
    </section>
  );
}

interface SaveProps {
  language: Language;
  messages: readonly Turn[];
  answer: string;
  onPage(): string;
}

function Save({ language, messages, answer, onPage }: SaveProps) {
  const s = LANGUAGES[language];
  const labels = data.guard.labels.responseRisk;
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

render(<App />, document.getElementById("app") as HTMLElement);
