import { render } from "preact";
import { useMemo, useState } from "preact/hooks";
import type { GuardConfig } from "../../model/config.js";
import { type Policy, type PolicyData, resolvePolicy } from "../../moderation/policy.js";
import type { Example, PageData, Turn } from "../../playground/protocol.js";
import { Answer, Readers } from "./answer.js";
import { LatencyChart, RiskChart } from "./charts.js";
import { Conversation } from "./conversation.js";
import { GuardPanel } from "./guard-panel.js";
import { PolicyPanel } from "./policy-panel.js";
import { ruleRun } from "./ruled.js";
import { savedPage } from "./save.js";
import { SavePanel } from "./save-panel.js";
import { Source, type SourceForm } from "./source.js";
import { LANGUAGES, type Language, type Strings } from "./strings.js";
import { useRun } from "./use-run.js";
import "uplot/dist/uPlot.min.css";
import "../style.css";
import "./playground.css";

const data: PageData = JSON.parse(document.getElementById("data")?.textContent as string);

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

const FORM: SourceForm = {
  from: "text",
  text: "",
  perSecond: 20,
  kind: "openai",
  url: "",
  model: "",
  key: "",
};

function App() {
  const { recording, guard, examples } = data;
  const live = recording === null;
  const [language, setLanguage] = useState<Language>(navigator.language.startsWith("zh") ? "zh" : "en");
  const s = LANGUAGES[language];
  const [turns, setTurns] = useState<Turn[]>(recording?.messages ?? examples[2].messages);
  const [form, setForm] = useState<SourceForm>({ ...FORM, text: examples[2]?.response ?? "" });
  const [policy, setPolicy] = useState<PolicyData>(recording?.policy ?? {});
  const [selected, setSelected] = useState<number | null>(null);
  const run = useRun(recording);
  const { asked, events } = run;
  const { resolved, problem } = usePolicy(policy);
  const ruled = useMemo(() => ruleRun(events, resolved), [events, resolved]);

  const pick = (example: Example) => {
    setTurns(example.messages);
    setForm({ ...form, text: example.response, from: form.from === "endpoint" ? "endpoint" : "text" });
  };
  const start = () => {
    setSelected(null);
    void run.start(turns, form, s.lost);
  };
  const keys = (event: KeyboardEvent) => {
    if (live && event.key === "Enter" && (event.ctrlKey || event.metaKey)) start();
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
          {live && <Buttons s={s} isRunning={run.isRunning} onStart={start} onStop={run.stop} />}
          <Answer ruled={ruled} labels={guard.labels} s={s} selected={selected} onSelect={setSelected} />
          <Readers ruled={ruled} s={s} />
          <RiskChart
            ruled={ruled}
            labels={guard.labels.responseRisk}
            policy={policy}
            s={s}
            cursor={selected}
            onCursor={setSelected}
            onThreshold={(label, value) => setPolicy(withThreshold(policy, label, value))}
          />
          <LatencyChart ruled={ruled} s={s} />
        </div>
        <div class="column right">
          <PolicyPanel policy={policy} problem={problem} labels={guard.labels} s={s} onChange={setPolicy} />
          <SavePanel
            labels={guard.labels.responseRisk}
            s={s}
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

function Buttons({ s, isRunning, onStart, onStop }: ButtonProps) {
  return (
    <div class="buttons run">
      <button type="button" class="primary" onClick={onStart}>
        ▶ {s.run}
      </button>
      <button type="button" disabled={!isRunning} onClick={onStop}>
        ■ {s.stop}
      </button>
    </div>
  );
}

interface ButtonProps {
  s: Strings;
  isRunning: boolean;
  onStart(): void;
  onStop(): void;
}

/** Without a value the label goes by what is usual. */
function withThreshold(policy: PolicyData, label: string, value: number | undefined): PolicyData {
  const { thresholds: { [label]: _, ...others } = {}, ...rest } = policy;
  const thresholds = value === undefined ? others : { ...others, [label]: value };
  return Object.keys(thresholds).length > 0 ? { ...rest, thresholds } : rest;
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

render(<App />, document.getElementById("app") as HTMLElement);
