/** JSON that may stand inside a script element: nothing in it closes or opens one. */
export function scriptJson(value: unknown): string {
  return JSON.stringify(value).replaceAll("<", "\\u003c");
}
