import type { Prefix } from "../tokenizer/chat-template/template.js";
import type { Turn } from "../tokenizer/chat-template/turns.js";
import type { PromptWindow } from "./prompt-windows.js";

/** A conversation without one of its turns, or that turn alone. Places are the part's own. */
export interface PromptPart {
  ids: readonly number[];
  /** Each with its number among those of the conversation. */
  turns: readonly NumberedTurn[];
  /** The place in the conversation of what stands at a place of the part. */
  placeOf: (index: number) => number;
}

interface NumberedTurn extends Turn {
  turn: number;
}

/** What is said, and what goes with each request, where there is something of either. */
export function partsOf({ ids, turns }: Pick<Prefix, "ids" | "turns">): {
  said: PromptPart;
  standing: PromptPart | null;
} {
  const numbered = turns.map((own, turn) => ({ ...own, turn }));
  const apart = numbered.find(({ standing }) => standing);
  if (!apart || turns.length === 1) {
    return { said: { ids, turns: numbered, placeOf: (index) => index }, standing: null };
  }
  const { start, end } = apart;
  // Behind the last turn that ends the answer begins.
  const next = ids.indexOf(ids[start], end);
  const gone = next - start;
  const rest = numbered.filter((own) => own !== apart);
  return {
    said: {
      ids: [...ids.slice(0, start), ...ids.slice(next)],
      turns: rest.map((own) => (own.start > start ? shifted(own, -gone) : own)),
      placeOf: (index) => (index < start ? index : index + gone),
    },
    standing: {
      ids: ids.slice(start, end + 1),
      turns: [shifted(apart, -start)],
      placeOf: (index) => index + start,
    },
  };
}

function shifted(own: NumberedTurn, by: number): NumberedTurn {
  return { ...own, start: own.start + by, body: own.body + by, end: own.end + by };
}

/** What is read once more, and what an answer is judged behind where that stands behind much else. */
export interface CloserWindows {
  windows: PromptWindow[];
  /** The last of them goes on to where the answer begins. */
  answers: boolean;
}

/**
 * The turns that count and stand behind more than `span` tokens, in windows in which they do not: each in that in which
 * it comes first, or with those next to it, as long as these are not much either.
 *
 * @param counts whether there is to be a verdict on a turn of the part, by its place in the list
 * @param longest of a window; longer turns are cut anyway
 * @param answered whether the answer goes on behind the last of them, where that is the conversation's last turn
 */
export function closerWindows(
  { ids, turns }: PromptPart,
  counts: (turn: number) => boolean,
  span: number,
  longest: number,
  answered: boolean,
): CloserWindows {
  const groups: { first: number; last: number }[] = [];
  for (const [i, { role, start, end }] of turns.entries()) {
    if (role === "assistant" || !counts(i) || start <= span || end - start >= longest) continue;
    const group = groups.at(-1);
    const begins = group ? turns[group.first].start : 0;
    const joins = group?.last === i - 1 && start - begins <= span && end - begins < longest;
    if (joins) group.last = i;
    else groups.push({ first: i, last: i });
  }
  const answers = answered && groups.at(-1)?.last === turns.length - 1;
  const windows = groups.map(({ first, last }, i) => {
    const from = turns[first].start;
    const reads = turns.slice(first, last + 1).map(({ end }, k) => ({
      at: end - from,
      turn: first + k,
      index: end,
      alone: true as const,
    }));
    const goesOn = answers && i === groups.length - 1;
    return { ids: ids.slice(from, goesOn ? undefined : turns[last].end + 1), reads };
  });
  return { windows, answers };
}
