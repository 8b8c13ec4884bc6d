import { InputError } from "../errors.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

/** What a stream is given: ids or text. */
export type InputKind = "ids" | "text";

/** @throws {InputError} TOKEN_INVALID */
export function idsOf(tokens: number | ArrayLike<number>, tokenizer: Tokenizer): number[] {
  const ids = typeof tokens === "number" ? [tokens] : listed(tokens);
  // A model may have more ids than its tokenizer: those stand for nothing.
  for (const id of ids) tokenizer.tokenBytes(id);
  return ids;
}

/** @throws {InputError} TEXT_INVALID */
export function requireText(chunk: unknown, method: string): void {
  if (typeof chunk === "string") return;
  throw new InputError(
    "TEXT_INVALID",
    `${method} takes a string, not ${typeof chunk}. For token ids use push.`,
  );
}

/** @throws {InputError} MIXED_INPUT */
export function requireSame(kind: InputKind, before: InputKind | null): void {
  if (before === null || before === kind) return;
  throw new InputError(
    "MIXED_INPUT",
    "A stream takes either ids (push) or text (pushText), not both in turns.",
  );
}

function listed(tokens: ArrayLike<number>): number[] {
  if (typeof tokens?.length === "number" && typeof tokens !== "string") return Array.from(tokens);
  throw new InputError("TOKEN_INVALID", "push takes a token id or a list of ids. For text use pushText.");
}
