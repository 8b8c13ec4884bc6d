import type { Tokenizer } from "../tokenizer.js";

const TURN_START = "<|im_start|>";
export const TURN_END = "<|im_end|>";

/** A turn of a templated conversation that ends. */
export interface Turn {
  /** As the template writes it: a tool's answer is a turn of the user. "" where the turn has no beginning. */
  role: string;
  /** Index of its `<|im_start|>`, or of its first token where it has none. */
  start: number;
  /** Index of what comes after its role and the line break there. */
  body: number;
  /** Index of the `<|im_end|>` that closes it. */
  end: number;
  /** Whether there is nothing but white space in it. */
  empty: boolean;
  /** Counts whatever the scope: see `Message.standing`. */
  standing?: true;
}

/** The turns among ids that are closed, in order. One that is still open, such as the answer's, is none of them. */
export function turnsOf(ids: readonly number[], tokenizer: Tokenizer): Turn[] {
  const start = tokenizer.tokenId(TURN_START);
  const close = tokenizer.tokenId(TURN_END);
  const turns: Turn[] = [];
  let from = 0;
  for (let end = 0; end < ids.length; end++) {
    if (ids[end] !== close) continue;
    let role = "";
    let first = from;
    let body = from;
    for (let i = from; i < end; i++) {
      // In a turn that never ended and runs into another, the user's part is not to be lost.
      if (ids[i] !== start || role === "user") continue;
      first = i;
      ({ role, body } = header(ids, i + 1, end, tokenizer));
    }
    const empty = isBlank(ids, body, end, tokenizer);
    if (role !== "" && body < end && isBlank(ids, body, body + 1, tokenizer)) body++;
    turns.push({ role, start: first, body, end, empty });
    from = end + 1;
  }
  return turns;
}

/** The index of the `<|im_end|>` that closes the last user turn among ids, null when there is none. */
export function promptIndexOf(ids: readonly number[], tokenizer: Tokenizer): number | null {
  const start = tokenizer.tokenId(TURN_START);
  const end = tokenizer.tokenId(TURN_END);
  const user = tokenizer.encode("user");
  let turn = ids.length - 1;
  while (turn >= 0 && !(ids[turn] === start && user.every((id, i) => ids[turn + 1 + i] === id))) turn--;
  const close = turn === -1 || end === undefined ? -1 : ids.indexOf(end, turn);
  return close === -1 ? null : close;
}

/** The role that stands before a turn's first line break, and where the rest begins. */
function header(
  ids: readonly number[],
  from: number,
  end: number,
  tokenizer: Tokenizer,
): { role: string; body: number } {
  let role = "";
  let body = from;
  // Line breaks make tokens of their own kind; a role's name never shares one with what follows.
  while (body < end && role.length <= LONGEST_ROLE) {
    const text = tokenizer.decode([ids[body]]);
    if (text.trim() === "") break;
    role += text;
    body++;
  }
  return { role, body };
}

const LONGEST_ROLE = 32;

function isBlank(ids: readonly number[], from: number, end: number, tokenizer: Tokenizer): boolean {
  for (let i = from; i < end; i++) if (tokenizer.decode([ids[i]]).trim() !== "") return false;
  return true;
}
