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
        <TurnEditor
          key={i}
          turn={turn}
          number={i + 1}
          of={turns.length}
          s={s}
          onChange={(changes) => change(i, changes)}
          onMove={(by) => move(i, by)}
          onRemove={() => onChange(turns.filter((_, other) => other !== i))}
        />
      ))}
      <button type="button" onClick={() => onChange([...turns, nextTurn(turns)])}>
        + {s.addTurn}
      </button>
    </section>
  );
}

interface TurnProps {
  turn: Turn;
  number: number;
  of: number;
  s: Strings;
  onChange(changes: Partial<Turn>): void;
  onMove(by: number): void;
  onRemove(): void;
}

function TurnEditor({ turn, number, of, s, onChange, onMove, onRemove }: TurnProps) {
  const role = (
    <select
      aria-label={`${s.role} ${number}`}
      value={turn.role}
      onChange={({ currentTarget }) => onChange({ role: currentTarget.value as Turn["role"] })}
    >
      {ROLES.map((name) => (
        <option key={name} value={name}>
          {s[name]}
        </option>
      ))}
    </select>
  );
  return (
    <div class="turn-editor">
      <div class="turn-head">
        {role}
        <IconButton icon="↑" name={s.up} disabled={number === 1} onClick={() => onMove(-1)} />
        <IconButton icon="↓" name={s.down} disabled={number === of} onClick={() => onMove(1)} />
        <IconButton icon="✕" name={s.remove} disabled={of === 1} onClick={onRemove} />
      </div>
      <textarea
        rows={Math.min(6, 1 + Math.ceil(turn.content.length / 48))}
        aria-label={`${s[turn.role]} ${number}`}
        value={turn.content}
        onInput={({ currentTarget }) => onChange({ content: currentTarget.value })}
      />
    </div>
  );
}

interface IconProps {
  icon: string;
  /** For those who cannot tell from the icon. */
  name: string;
  disabled: boolean;
  onClick(): void;
}

function IconButton({ icon, name, disabled, onClick }: IconProps) {
  return (
    <button type="button" title={name} aria-label={name} disabled={disabled} onClick={onClick}>
      {icon}
    </button>
  );
}

function nextTurn(turns: readonly Turn[]): Turn {
  return { role: turns.at(-1)?.role === "user" ? "assistant" : "user", content: "" };
}
