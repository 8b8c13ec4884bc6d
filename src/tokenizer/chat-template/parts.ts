import { IncrementalEncoder } from "../incremental.js";
import { leastBytes, promptTooLong } from "../limits.js";
import { SLICE, slicesOf } from "../slices.js";
import type { Tokenizer } from "../tokenizer.js";
import type { KnownTexts } from "./encoded-texts.js";

/** A templated conversation's control tokens, as ids, and the content between them, as text. */
export type Part = number | string;

/**
 * Ids of a templated conversation, in steps of about a slice. Gives up as soon as it is plain that there are `most` ids or
 * more: by the text's length before the first step, later by the ids that stand.
 *
 * @throws {ContextLengthError} PROMPT_TOO_LONG, at once or in a step
 * @throws {InputError} MARKS_TOO_MANY, in a step
 */
export function encodeParts(
  parts: readonly Part[],
  tokenizer: Tokenizer,
  most = Number.POSITIVE_INFINITY,
  tooLong = (least: number) => promptTooLong(least, most),
  known?: KnownTexts,
): Generator<void, number[]> {
  const bytes = parts.map((part) => (typeof part === "string" ? leastBytes(part) : tokenizer.longest));
  const total = bytes.reduce((sum, one) => sum + one, 0);
  if (total / tokenizer.longest >= most) throw tooLong(Math.ceil(total / tokenizer.longest));
  const check = (stand: number, left: number) => {
    const least = stand + left / tokenizer.longest;
    if (least >= most) throw tooLong(Math.ceil(least));
  };
  return steps(parts, bytes, { tokenizer, left: total, check, known });
}

interface Encoding {
  tokenizer: Tokenizer;
  /** The fewest bytes that all parts take in NFC, a control token counted as the longest. */
  left: number;
  /** Told how many ids stand, and what is left after them. */
  check: (stand: number, left: number) => void;
  known?: KnownTexts;
}

/** @param bytes the fewest of each part */
function* steps(
  parts: readonly Part[],
  bytes: readonly number[],
  { tokenizer, left, check, known }: Encoding,
): Generator<void, number[]> {
  let ids: number[] = [];
  let units = 0;
  for (const [i, part] of parts.entries()) {
    if (typeof part === "number") {
      ids.push(part);
      left -= tokenizer.longest;
      continue;
    }
    const base = ids.length;
    const remembered = known?.get(part);
    if (remembered) {
      ids = joined(ids, remembered);
      left -= bytes[i];
    } else if (part.length > SLICE) {
      const encoder = new IncrementalEncoder(tokenizer);
      for (const slice of slicesOf(part)) {
        const { from, ids: others, provisional } = encoder.push(slice);
        replace(ids, base + from, others);
        left -= leastBytes(slice);
        check(ids.length - provisional, left);
        yield;
      }
      const last = encoder.end();
      replace(ids, base + last.from, last.ids);
    } else {
      for (const id of tokenizer.encode(part)) ids.push(id);
      left -= bytes[i];
      units += part.length;
    }
    if (!remembered) known?.put(part, ids.slice(base));
    check(ids.length, left);
    if (units < SLICE) continue;
    units = 0;
    yield;
  }
  return ids;
}

/** To copy is a tenth of the work of adding one by one, as long as what stands is no more than what is added. */
function joined(ids: number[], others: readonly number[]): number[] {
  if (ids.length <= others.length) return ids.concat(others);
  replace(ids, ids.length, others);
  return ids;
}

function replace(ids: number[], from: number, others: readonly number[]): void {
  ids.length = from;
  for (const id of others) ids.push(id);
}
