const LONGEST = 60;

/** A value out of a file, as an error message may show it: as JSON, and cut where it is long. */
export function quoted(value: unknown): string {
  if (value === undefined) return "missing";
  // Long texts and lists are not worth the time to write them out.
  if (typeof value === "string") return cut(JSON.stringify(value.slice(0, LONGEST + 1)));
  try {
    return cut(JSON.stringify(Array.isArray(value) ? value.slice(0, LONGEST) : value));
  } catch {
    return "something nested too deeply";
  }
}

/** Of a name: more than any that is known, and too little for a text to say anything. */
const LONGEST_NAME = 40;

/** What stands where a name should, in whatever a stranger sends, as a message may show it: as JSON, cut where it is long. */
export function quotedName(name: unknown): string {
  if (typeof name !== "string") return `(${name === null ? "null" : typeof name})`;
  return JSON.stringify(name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME)}…` : name);
}

function cut(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
