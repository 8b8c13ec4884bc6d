import { useState } from "preact/hooks";
import type { Action, CategoryData, PolicyData } from "../../moderation/policy.js";
import type { GuardInfo } from "../../playground/protocol.js";
import { asCode, asCommand, asJson } from "./save.js";
import type { Strings } from "./strings.js";

interface Props {
  policy: PolicyData;
  problem: string | null;
  labels: GuardInfo["labels"];
  s: Strings;
  onChange(policy: PolicyData): void;
}

const ACTIONS: readonly Action[] = ["block", "observe", "ignore"];

/** The policy, by hand. What is left as it is by default is not written down. */
export function PolicyPanel({ policy, problem, labels, s, onChange }: Props) {
  const set = (changes: PolicyData) => onChange(cleaned({ ...policy, ...changes }));
  const categories = [...new Set([...labels.responseCategory, ...labels.promptCategory])];
  const setCategory = (label: string, rule: CategoryData | undefined) => {
    const { [label]: _, ...others } = policy.categories ?? {};
    set({ categories: rule === undefined ? others : { ...others, [label]: rule } });
  };
  return (
    <section class="card" aria-labelledby="policy">
      <h2 id="policy">{s.policy}</h2>
      <p class="note">{s.policyNote}</p>
      <Choice
        name={s.readingName}
        value={policy.reading ?? "strict"}
        options={["strict", "loose"]}
        s={s}
        onChange={(reading) => set({ reading: reading === "strict" ? undefined : reading })}
      />
      <Choice
        name={s.action}
        value={policy.action ?? "block"}
        options={ACTIONS}
        s={s}
        onChange={(action) => set({ action: action === "block" ? undefined : action })}
      />
      <label class="field">
        {s.debounce}
        <input
          type="number"
          min={1}
          max={64}
          value={policy.debounce ?? 2}
          onInput={({ currentTarget }) => set({ debounce: Number(currentTarget.value) || undefined })}
        />
      </label>
      <div class="scroll">
        <table class="categories">
          <thead>
            <tr>
              <th>{s.category}</th>
              <th />
              <th>{s.least}</th>
            </tr>
          </thead>
          <tbody>
            {categories.map((label) => (
              <Category
                key={label}
                label={label}
                rule={policy.categories?.[label]}
                s={s}
                onChange={(rule) => setCategory(label, rule)}
              />
            ))}
          </tbody>
        </table>
      </div>
      {problem && (
        <p class="failure" role="alert">
          {problem}
        </p>
      )}
      <Copies policy={policy} s={s} onReset={() => onChange({})} />
    </section>
  );
}

interface ChoiceProps<V extends "strict" | "loose" | Action> {
  name: string;
  value: V;
  options: readonly V[];
  s: Strings;
  onChange(value: V): void;
}

function Choice<V extends "strict" | "loose" | Action>({
  name,
  value,
  options,
  s,
  onChange,
}: ChoiceProps<V>) {
  return (
    <label class="field">
      {name}
      <select value={value} onChange={({ currentTarget }) => onChange(currentTarget.value as V)}>
        {options.map((option) => (
          <option key={option} value={option}>
            {s[option]}
          </option>
        ))}
      </select>
    </label>
  );
}

function Category({
  label,
  rule,
  s,
  onChange,
}: {
  label: string;
  rule: CategoryData | undefined;
  s: Strings;
  onChange(rule: CategoryData | undefined): void;
}) {
  const { action, threshold } =
    typeof rule === "string" ? { action: rule, threshold: undefined } : (rule ?? {});
  const set = (changes: { action?: Action; threshold?: number }) => {
    const next = { action, threshold, ...changes };
    if (next.threshold === undefined) onChange(next.action);
    else onChange(next.action ? next : { threshold: next.threshold });
  };
  return (
    <tr>
      <th scope="row">{label}</th>
      <td>
        <select
          aria-label={label}
          value={action ?? ""}
          onChange={({ currentTarget }) => set({ action: (currentTarget.value || undefined) as Action })}
        >
          <option value="">{s.inherits}</option>
          {ACTIONS.map((one) => (
            <option key={one} value={one}>
              {s[one]}
            </option>
          ))}
        </select>
      </td>
      <td>
        <input
          type="number"
          aria-label={`${label}: ${s.least}`}
          min={0}
          max={1}
          step={0.05}
          placeholder="0"
          value={threshold ?? ""}
          onInput={({ currentTarget }) =>
            set({ threshold: currentTarget.value === "" ? undefined : Number(currentTarget.value) })
          }
        />
      </td>
    </tr>
  );
}

function Copies({ policy, s, onReset }: { policy: PolicyData; s: Strings; onReset(): void }) {
  const [copied, setCopied] = useState("");
  const copy = async (name: string, text: string) => {
    await navigator.clipboard.writeText(text);
    setCopied(name);
  };
  const ways: [string, string][] = [
    [s.copyJson, asJson(policy)],
    [s.copyCode, asCode(policy)],
    [s.copyCommand, asCommand(policy)],
  ];
  return (
    <div class="buttons">
      {ways.map(([name, text]) => (
        <button type="button" key={name} onClick={() => void copy(name, text)}>
          {copied === name ? `${s.copied} ✓` : name}
        </button>
      ))}
      <button type="button" onClick={onReset}>
        {s.reset}
      </button>
    </div>
  );
}

/** Without what says nothing. */
function cleaned(policy: PolicyData): PolicyData {
  return Object.fromEntries(
    Object.entries(policy).filter(
      ([, value]) =>
        value !== undefined && !(typeof value === "object" && Object.keys(value as object).length === 0),
    ),
  );
}
