import { isRecord } from "../../validation/json.js";
import { RequestError } from "../api-error.js";

/** They take turns in one place: more would hold it for long. */
const MOST_INPUTS = 256;

/** The texts of a request for moderations: a list of them is as many, one of parts is a single one. @throws {RequestError} */
export function moderationInputs(input: unknown): string[] {
  const items = Array.isArray(input) ? input : [input];
  if (items.length > MOST_INPUTS) {
    throw new RequestError(400, "too_many_inputs", `input must hold no more than ${MOST_INPUTS} texts.`);
  }
  if (items.length > 0 && items.every((item) => typeof item === "string")) return items;
  if (items.length > 0 && items.every(isTextPart)) return [items.map(({ text }) => text).join("\n")];
  throw new RequestError(
    400,
    "input_unreadable",
    "input must be a text, a list of texts, or a list of text parts.",
  );
}

/** A picture's part may say something beside it: that is not all there is to judge. */
function isTextPart(item: unknown): item is { text: string } {
  return isRecord(item) && (item.type ?? "text") === "text" && typeof item.text === "string";
}
