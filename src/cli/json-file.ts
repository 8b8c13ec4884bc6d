import { InputError } from "../errors.js";
import { parseJson } from "../validation/json.js";

/** In bytes: far more than a context of messages, or any policy, takes. */
const LARGEST = 16 << 20;

export const POLICY_HINT = '{"action": "block", …}';

/**
 * What a JSON file that the user names holds. A pipe or a device is refused: it may never end.
 *
 * @param kind begins the codes of its errors
 * @param hint what a right file looks like
 * @throws {InputError} POLICY_UNREADABLE, POLICY_INVALID, MESSAGES_UNREADABLE, MESSAGES_INVALID
 */
export async function readJsonFile(
  file: string,
  kind: "POLICY" | "MESSAGES",
  hint: string,
): Promise<unknown> {
  const { fileProblem, readText } = await import("../files/regular-file.js");
  let text: string;
  try {
    text = await readText(file, LARGEST);
  } catch (cause) {
    throw new InputError(`${kind}_UNREADABLE`, `${file} cannot be read: ${fileProblem(cause)}.`, { cause });
  }
  try {
    return parseJson(text);
  } catch (cause) {
    const problem = (cause as Error).message;
    throw new InputError(`${kind}_INVALID`, `${file} is not JSON (${problem}). Write ${hint}.`, { cause });
  }
}
