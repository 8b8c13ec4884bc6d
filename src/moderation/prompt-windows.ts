import type { Prefix } from "../tokenizer/chat-template/template.js";
import { promptTooLong, tooManyWindows } from "../tokenizer/limits.js";
import type { PromptScope } from "./policy.js";
import { turnsInScope } from "./ruling.js";

/** How a conversation that is longer than the context is cut. All in tokens, but `most`. */
export interface WindowSizes {
  /** Of the conversation in a window. */
  length: number;
  /** How many of them the window before has as well. */
  overlap: number;
  /** Windows that are read at most. */
  most: number;
}

/** A verdict that is read in a window. */
export interface WindowRead {
  /** Its place in the window. */
  at: number;
  /** The turn that it is about, as counted in the conversation. */
  turn: number;
  /** Its place in the conversation: where the turn ends, or where the window cuts it. */
  index: number;
}

/** What the model is given at once of a conversation: as much as its context holds, from position 0. */
export interface PromptWindow {
  ids: readonly number[];
  /** In order. */
  reads: readonly WindowRead[];
}

/** A conversation as the model is given it. */
export interface PromptInWindows {
  /** The answer comes behind the last of them. */
  windows: readonly PromptWindow[];
  /** Takes the last one's place once the answer outgrows the context: it leaves more room. null: that has room. */
  short: readonly number[] | null;
}

/** A smaller context leaves no room for an answer beside a window and what a turn that is cut begins and ends with. */
const SMALLEST_CONTEXT = 256;

/**
 * Three quarters of the context, an eighth of it common to two windows; the last quarter is the answer's.
 *
 * @param most windows; with 1 there are none
 * @returns null where nothing is cut
 */
export function windowSizes(maxTokens: number, most: number): WindowSizes | null {
  if (most === 1 || maxTokens < SMALLEST_CONTEXT) return null;
  return { length: Math.floor((3 * maxTokens) / 4), overlap: Math.floor(maxTokens / 8), most };
}

/** The longest conversation that goes into so many windows. */
export function longestConversation({ length, overlap, most }: WindowSizes): number {
  return (most - 1) * (length - overlap) + length;
}

/**
 * A conversation in one window where the context holds it, else in several.
 *
 * @param maxTokens that the context holds, prompt and response
 * @param cuts null: it must not be cut
 * @param more.scope which turns there are to be verdicts on where it is cut
 * @param more.close what ends a turn
 * @throws {ContextLengthError} PROMPT_TOO_LONG
 */
export function intoWindows(
  prefix: Prefix,
  maxTokens: number,
  cuts: WindowSizes | null,
  { scope, close }: { scope: PromptScope; close: number },
): PromptInWindows {
  const { ids, turns } = prefix;
  if (ids.length < maxTokens) {
    const short = cuts && ids.length > cuts.length ? lastWindow(prefix, cuts) : null;
    return { windows: [wholeWindow(prefix)], short };
  }
  if (!cuts) throw promptTooLong(ids.length, maxTokens);
  const numbered = turns.map((own, turn) => ({ ...own, turn }));
  const counting = new Set(turnsInScope(numbered, scope).map(({ turn }) => turn));
  const windows = planWindows(prefix, cuts, (turn) => counting.has(turn), close);
  if (windows.length > cuts.most) throw tooManyWindows(windows.length, cuts.most);
  return { windows, short: null };
}

/** A conversation that the context holds: all its turns are judged in one window. */
export function wholeWindow({ ids, turns }: Prefix): PromptWindow {
  return { ids, reads: turns.map(({ end }, turn) => ({ at: end, turn, index: end })) };
}

/**
 * The windows in which a conversation is judged. They begin at fixed distances from its start, so that those of a
 * conversation that has grown are the same as before. A turn that is cut begins anew with its role, and is closed where the
 * window ends, so that there is a verdict. Every end of a turn is read once, in the first window that holds it; so every
 * stretch of up to `overlap` tokens lies whole in a window with a verdict behind it.
 *
 * Windows without anything to read are left out, but for the last one, behind which the answer comes.
 *
 * @param counts whether there is to be a verdict on a turn
 * @param close what ends a turn
 */
export function planWindows(
  { ids, turns }: Pick<Prefix, "ids" | "turns">,
  { length, overlap }: WindowSizes,
  counts: (turn: number) => boolean,
  close: number,
): PromptWindow[] {
  const windows: PromptWindow[] = [];
  const stride = length - overlap;
  for (let start = 0, read = 0; ; start += stride) {
    const end = Math.min(start + length, ids.length);
    const { lead, from } = opening({ ids, turns }, start);
    const place = (index: number) => lead.length + index - from;
    const reads: WindowRead[] = [];
    const window = [...lead, ...ids.slice(from, end)];
    for (const [turn, { body, end: index }] of turns.entries()) {
      if (!counts(turn) || index < read || body >= end) continue;
      if (index < end) reads.push({ at: place(index), turn, index });
      else {
        reads.push({ at: window.length, turn, index: end });
        window.push(close);
      }
    }
    read = end;
    const isLast = end === ids.length;
    // What comes after the last verdict nobody asks for.
    if (!isLast) window.length = (reads.at(-1)?.at ?? -1) + 1;
    if (isLast || reads.length > 0) windows.push({ ids: window, reads });
    if (isLast) return windows;
  }
}

/** The last window of a conversation, behind which there is room for an answer. */
export function lastWindow(prefix: Pick<Prefix, "ids" | "turns">, sizes: WindowSizes): readonly number[] {
  const stride = sizes.length - sizes.overlap;
  const before = Math.max(0, Math.ceil((prefix.ids.length - sizes.length) / stride));
  const { lead, from } = opening(prefix, before * stride);
  return [...lead, ...prefix.ids.slice(from)];
}

/** How a window begins that starts in the middle of a turn: with the turn's role, then goes on `from` there. */
function opening(
  { ids, turns }: Pick<Prefix, "ids" | "turns">,
  start: number,
): { lead: number[]; from: number } {
  const turn = turns.find(({ start: first, end }) => first < start && start <= end);
  if (!turn) return { lead: [], from: start };
  return { lead: ids.slice(turn.start, turn.body), from: Math.max(start, turn.body) };
}
