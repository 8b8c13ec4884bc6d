import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { type Severity, severityOf } from "../../moderation/labels.js";
import { percent } from "./severity.js";

/** A token as it is drawn. */
export interface ShownToken {
  text: string;
  /** The label that is most likely, and its probability. */
  risk: string;
  probability: number;
  /** Later text could still change it. */
  provisional?: boolean;
  /** The policy fired here. */
  fired?: boolean;
  /** Part of an annotated stretch. */
  marked?: boolean;
  /** More to say of it, for who cannot see colours and frames. */
  note?: string;
  /** What a page with a `Tip` shows where this is pointed at. */
  tip?: string;
}

interface Props {
  tokens: readonly ShownToken[];
  /** Which token can be reached by the Tab key; arrow keys go on from there. */
  selected: number | null;
  onSelect(index: number | null): void;
  label: string;
}

/** Text in the colours of its tokens' risks. Risk is told by underlines too, and a place by its frame. */
export function Tokens({ tokens, selected, onSelect, label }: Props) {
  const root = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent) => {
    const last = tokens.length - 1;
    const from = selected ?? 0;
    const to = {
      ArrowRight: Math.min(last, from + 1),
      ArrowLeft: Math.max(0, from - 1),
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    onSelect(to);
    (root.current?.children[to] as HTMLElement | undefined)?.focus();
  };
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms
    <div class="tokens" role="group" aria-label={label} ref={root} onKeyDown={move}>
      {tokens.map((token, index) => (
        <span
          key={index}
          class={classes(token)}
          style={{ "--p": token.probability.toFixed(3) }}
          role="img"
          data-tip={token.tip}
          tabIndex={index === (selected ?? 0) ? 0 : -1}
          aria-label={`${token.text}: ${token.risk} ${percent(token.probability)}${token.note ? `, ${token.note}` : ""}`}
          onMouseOver={() => onSelect(index)}
          onFocus={() => onSelect(index)}
        >
          {visible(token.text)}
        </span>
      ))}
    </div>
  );
}

function classes({ risk, text, provisional, fired, marked }: ShownToken): string {
  const names: string[] = ["token", severityOf(risk) satisfies Severity];
  if (provisional) names.push("provisional");
  if (fired) names.push("fired");
  if (marked) names.push("span");
  if (/^<\|.*\|>$/.test(text)) names.push("control");
  return names.join(" ");
}

/** The text with a sign where a line ends. */
function visible(text: string): ComponentChildren {
  return text.split("\n").flatMap((part, i) =>
    i === 0
      ? [part]
      : [
          <i key={i} class="break">
            ↵
          </i>,
          `\n${part}`,
        ],
  );
}
