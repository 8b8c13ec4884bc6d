import { useState } from "preact/hooks";
import { severityOf } from "../../moderation/labels.js";
import type { Verdict } from "../../moderation/verdict.js";
import type { GuardInfo } from "../../playground/protocol.js";
import { Distribution } from "../components/distribution.js";
import { milliseconds, percent } from "../components/severity.js";
import { Tokens } from "../components/tokens.js";
import type { Reader, Ruled } from "./ruled.js";
import type { Strings } from "./strings.js";

interface Props {
  ruled: Ruled;
  labels: GuardInfo["labels"];
  s: Strings;
  selected: number | null;
  onSelect(index: number | null): void;
}

/** The answer as it streams, and what the guard says of it. */
export function Answer({ ruled, labels, s, selected, onSelect }: Props) {
  const [prompt, setPrompt] = useState(false);
  const { verdicts, violation } = ruled;
  const shown = verdicts.map((verdict, index) => ({
    text: verdict.text,
    risk: verdict.risk,
    probability: verdict.riskProbability,
    provisional: index >= ruled.settled,
    fired: violation?.index === index,
    note: violation?.index === index ? `${s.fires} ${index}` : undefined,
  }));
  const at = prompt ? ruled.prompt : verdicts[selected ?? verdicts.length - 1];
  return (
    <section class="card answer" aria-labelledby="answer">
      <h2 id="answer">{s.answer}</h2>
      {ruled.prompt && (
        <button type="button" class="prompt-verdict" aria-pressed={prompt} onClick={() => setPrompt(!prompt)}>
          {s.prompt} <Risk verdict={ruled.prompt} />
        </button>
      )}
      {verdicts.length === 0 ? (
        <p class="empty">{s.nothing}</p>
      ) : (
        <Tokens
          tokens={shown}
          selected={selected}
          label={s.answer}
          onSelect={(index) => {
            setPrompt(false);
            onSelect(index);
          }}
        />
      )}
      <p class="note">{s.legend}</p>
      <p class="outcome" aria-live="polite">
        <Outcome ruled={ruled} s={s} />
      </p>
      {at && <Details verdict={at} part={prompt ? "prompt" : "response"} labels={labels} s={s} />}
    </section>
  );
}

function Outcome({ ruled, s }: { ruled: Ruled; s: Strings }) {
  const { failure, promptRuling, violation, observed } = ruled;
  if (failure) {
    return (
      <strong class="failure" role="alert">
        {s.failed}: {failure.message} [{failure.code}]
      </strong>
    );
  }
  if (promptRuling?.violation) return <strong>{s.blockedPrompt}</strong>;
  const seen = observed.length > 0 ? ` ${observed.length} × ${s.observed}.` : "";
  if (violation) {
    return (
      <strong>
        {s.fires} {violation.index}: {violation.risk}, {violation.category}.{seen}
      </strong>
    );
  }
  return (
    <>
      {ruled.ended && s.passes}
      {seen}
    </>
  );
}

function Risk({ verdict }: { verdict: Verdict }) {
  return (
    <span class={`risk ${severityOf(verdict.risk)}`}>
      {verdict.risk} {percent(verdict.riskProbability)}
      {verdict.category && `, ${verdict.category}`}
    </span>
  );
}

function Details({
  verdict,
  part,
  labels,
  s,
}: {
  verdict: Verdict;
  part: "prompt" | "response";
  labels: GuardInfo["labels"];
  s: Strings;
}) {
  const [risks, categories] =
    part === "prompt"
      ? [labels.promptRisk, labels.promptCategory]
      : [labels.responseRisk, labels.responseCategory];
  const name = part === "prompt" ? s.prompt : `${JSON.stringify(verdict.text)} · ${verdict.index}`;
  return (
    <div class="details">
      <Distribution title={name} labels={risks} probabilities={verdict.probabilities.risk} risks />
      <Distribution title={s.category} labels={categories} probabilities={verdict.probabilities.category} />
    </div>
  );
}

/** What two readers would have seen by now. */
export function Readers({ ruled, s }: { ruled: Ruled; s: Strings }) {
  return (
    <section class="card" aria-labelledby="readers">
      <h2 id="readers">{s.readers}</h2>
      <div class="readers">
        <ReaderView name={s.holdBack} note={s.holdBackNote} reader={ruled.holdBack} s={s} />
        <ReaderView name={s.streamFirst} note={s.streamFirstNote} reader={ruled.streamFirst} s={s} />
      </div>
    </section>
  );
}

function ReaderView({ name, note, reader, s }: { name: string; note: string; reader: Reader; s: Strings }) {
  return (
    <div class={`reader ${reader.state}`}>
      <h3>
        {name} <span class="state">{s[reader.state]}</span>
      </h3>
      <p class="note">{note}</p>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keys */}
      <section class="seen" tabIndex={0} aria-label={name}>
        {reader.text}
        {reader.state === "stopped" && <span class="cut"> ■ {s.stopped}</span>}
      </section>
      <p class="note numbers">
        {reader.firstAt !== null && `${s.firstText} ${milliseconds(reader.firstAt)}`}
        {reader.stoppedAt !== null && ` · ${s.stoppedAfter} ${milliseconds(reader.stoppedAt)}`}
      </p>
    </div>
  );
}
