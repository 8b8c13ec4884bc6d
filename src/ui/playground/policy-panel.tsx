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
      <label class="field">
        {s.readingName}
        <select
          value={policy.reading ?? "strict"}
          onChange={({ currentTarget }) =>
            set({ reading: currentTarget.value === "loose" ? "loose" : undefined })
          }
        >
          <option value="strict">{s.strict}</option>
          <option value="loose">{s.loose}</option>
        </select>
      </label>
      <label class="field">
        {s.action}
        <select
          value={policy.action ?? "block"}
          onChange={({ currentTarget }) =>
            set({ action: currentTarget.value === "block" ? undefined : (currentTarget.value as Action) })
          }
        >
          {ACTIONS.map((action) => (
            <option key={action} value={action}>
              {s[action]}
            </option>
          ))}
        </select>
      </label>
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
