import type { Prefix } from "../tokenizer/chat-template/template.js";
import type { Turn } from "../tokenizer/chat-template/turns.js";
import { promptTooLong, tooManyWindows } from "../tokenizer/limits.js";
import type { PromptScope } from "./policy.js";
import { closerWindows, type PromptPart, partsOf } from "./prompt-parts.js";
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
  /** It is one more on a turn that stands behind much else in another window, and not in this. */
  alone?: true;
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

type Conversation = Pick<PromptPart, "ids"> & { readonly turns: readonly Turn[] };

/** A smaller context leaves no room for an answer beside a window and what a turn that is cut begins and ends with. */
const SMALLEST_CONTEXT = 256;

/** Of a model's positions. It is the half of what the embedded guard, whose positions are 2,048, was mostly trained on. */
const SPAN = 1 / 16;

/** Tokens behind which a model's verdicts are taken to hold, where nobody has said. */
export function spanOf({ maxPositions }: { maxPositions: number }): number {
  return Math.floor(maxPositions * SPAN);
}

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

/** How a conversation is to be read. */
export interface Reading {
  /** Which turns there are to be verdicts on where it is cut, or where they are read once more. */
  scope: PromptScope;
  /** What ends a turn. */
  close: number;
  /** A turn that counts and stands behind more tokens than these is read once more, by itself. null: none is. */
  span: number | null;
  /** Whether the answer is then judged behind that alone. */
  answerToo: boolean;
}

/**
 * A conversation in one window where the context holds it, else in several. What goes with each request is in windows of
 * its own: it is no part of what is said, and would drown it.
 *
 * @param maxTokens that the context holds, prompt and response
 * @param cuts null: it must not be cut
 * @throws {ContextLengthError} PROMPT_TOO_LONG
 */
export function intoWindows(
  prefix: Prefix,
  maxTokens: number,
  cuts: WindowSizes | null,
  { scope, close, span, answerToo }: Reading,
): PromptInWindows {
  const { said, standing } = partsOf(prefix);
  const inScope = turnsInScope([...said.turns, ...(standing?.turns ?? [])], scope);
  const counting = new Set(inScope.map(({ turn }) => turn));
  const isCounted =
    ({ turns }: PromptPart) =>
    (i: number) =>
      counting.has(turns[i].turn);
  const cut = (part: PromptPart): PromptWindow[] => {
    if (part.ids.length < maxTokens) return [wholeWindow(part)];
    if (!cuts) throw promptTooLong(prefix.ids.length, maxTokens);
    return planWindows(part, cuts, isCounted(part), close);
  };
  const conversation = cut(said);
  const beside = standing ? cut(standing) : [];
  const count = conversation.length + beside.length;
  if (cuts && count > cuts.most) throw tooManyWindows(count, cuts.most);
  const most = cuts?.length ?? maxTokens - 1;
  const closer = span === null ? null : closerWindows(said, isCounted(said), span, most, answerToo);
  const whole = conversation.map((window) => ofConversation(window, said));
  const own = closer?.windows.map((window) => ofConversation(window, said)) ?? [];
  const apart = beside.map((window) => ofConversation(window, standing as PromptPart));
  if (closer?.answers) return { windows: [...whole, ...apart, ...own], short: null };
  const hasRoom = !cuts || said.ids.length >= maxTokens || said.ids.length <= cuts.length;
  return { windows: [...apart, ...own, ...whole], short: hasRoom ? null : lastWindow(said, cuts) };
}

/** A window of a part, whose reads are numbered and placed as in the conversation. */
function ofConversation({ ids, reads }: PromptWindow, { turns, placeOf }: PromptPart): PromptWindow {
  return {
    ids,
    reads: reads.map((read) => ({ ...read, turn: turns[read.turn].turn, index: placeOf(read.index) })),
  };
}

/** A conversation that the context holds: all its turns are judged in one window. */
export function wholeWindow({ ids, turns }: Conversation): PromptWindow {
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
  { ids, turns }: Conversation,
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
export function lastWindow(prefix: Conversation, sizes: WindowSizes): readonly number[] {
  const stride = sizes.length - sizes.overlap;
  const before = Math.max(0, Math.ceil((prefix.ids.length - sizes.length) / stride));
  const { lead, from } = opening(prefix, before * stride);
  return [...lead, ...prefix.ids.slice(from)];
}

/** How a window begins that starts in the middle of a turn: with the turn's role, then goes on `from` there. */
function opening({ ids, turns }: Conversation, start: number): { lead: number[]; from: number } {
  const turn = turns.find(({ start: first, end }) => first < start && start <= end);
  if (!turn) return { lead: [], from: start };
  return { lead: ids.slice(turn.start, turn.body), from: Math.max(start, turn.body) };
}
