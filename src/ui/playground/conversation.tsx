import type { Example, Turn } from "../../playground/protocol.js";
import type { Language, Strings } from "./strings.js";

interface Props {
  turns: Turn[];
  examples: readonly Example[];
  language: Language;
  s: Strings;
  onChange(turns: Turn[]): void;
  onPick(example: Example): void;
}

const ROLES = ["system", "user", "assistant"] as const;

/** The conversation up to the answer. */
export function Conversation({ turns, examples, language, s, onChange, onPick }: Props) {
  const change = (index: number, turn: Partial<Turn>) =>
    onChange(turns.map((old, i) => (i === index ? { ...old, ...turn } : old)));
  const move = (index: number, by: number) => {
    const moved = [...turns];
    const [turn] = moved.splice(index, 1);
    moved.splice(index + by, 0, turn);
    onChange(moved);
  };
  return (
    <section class="card" aria-labelledby="conversation">
      <h2 id="conversation">{s.conversation}</h2>
      <select
        class="wide"
        aria-label={s.pick}
        value=""
        onChange={({ currentTarget }) => {
          onPick(examples[Number(currentTarget.value)]);
          currentTarget.value = "";
        }}
      >
        <option value="" disabled>
          {s.pick}
        </option>
        {examples.map((example, i) => (
          <option key={example.title} value={i}>
            {language === "zh" ? example.titleZh : example.title}
          </option>
        ))}
      </select>
      {turns.map((turn, i) => (
        <div class="turn-editor" key={i}>
          <div class="turn-head">
            <select
              aria-label={`${s.role} ${i + 1}`}
              value={turn.role}
              onChange={({ currentTarget }) => change(i, { role: currentTarget.value as Turn["role"] })}
            >
              {ROLES.map((role) => (
                <option key={role} value={role}>
                  {s[role]}
                </option>
              ))}
            </select>
            <button
              type="button"
              title={s.up}
              aria-label={s.up}
              disabled={i === 0}
              onClick={() => move(i, -1)}
            >
              ↑
            </button>
            <button
              type="button"
              title={s.down}
              aria-label={s.down}
              disabled={i === turns.length - 1}
              onClick={() => move(i, 1)}
            >
              ↓
            </button>
            <button
              type="button"
              title={s.remove}
              aria-label={s.remove}
              disabled={turns.length === 1}
              onClick={() => onChange(turns.filter((_, other) => other !== i))}
            >
              ✕
            </button>
          </div>
          <textarea
            rows={Math.min(6, 1 + Math.ceil(turn.content.length / 48))}
            aria-label={`${s[turn.role]} ${i + 1}`}
            value={turn.content}
            onInput={({ currentTarget }) => change(i, { content: currentTarget.value })}
          />
        </div>
      ))}
      <button type="button" onClick={() => onChange([...turns, nextTurn(turns)])}>
        + {s.addTurn}
      </button>
    </section>
  );
}

function nextTurn(turns: readonly Turn[]): Turn {
  return { role: turns.at(-1)?.role === "user" ? "assistant" : "user", content: "" };
}
