import { Template } from "@huggingface/jinja";

/** What `str.strip`, `str.lstrip` and `str.rstrip` do with an argument, by the name the template calls them. */
const STRIPS: Record<string, (text: string, characters: string) => string> = {
  strip: (text, characters) => stripEnd(stripStart(text, characters), characters),
  lstrip: stripStart,
  rstrip: stripEnd,
};

interface Node {
  type: string;
  [field: string]: unknown;
}

/**
 * A Jinja template as Python renders it. `@huggingface/jinja` ignores the argument of `lstrip('\n')` and its
 * kin and strips all white space: such calls are turned into calls of functions that honour it.
 */
export class JinjaTemplate {
  readonly #template: Template;

  /** Throws SyntaxError when the source is no template. */
  constructor(source: string) {
    this.#template = new Template(source);
    redirectStrips(this.#template.parsed);
  }

  render(variables: Record<string, unknown>): string {
    const functions = Object.entries(STRIPS).map(([name, strip]) => [functionName(name), strip]);
    return this.#template.render({ ...variables, ...Object.fromEntries(functions) });
  }
}

function redirectStrips(node: unknown): void {
  if (typeof node !== "object" || node === null) return;
  for (const child of Object.values(node)) redirectStrips(child);
  const call = node as Node;
  const callee = call.callee as Node | undefined;
  if (call.type !== "CallExpression" || callee?.type !== "MemberExpression" || callee.computed) return;
  const args = call.args as unknown[];
  const method = (callee.property as Node).value as string;
  if (!Object.hasOwn(STRIPS, method) || args.length !== 1) return;
  call.args = [callee.object, ...args];
  call.callee = { type: "Identifier", value: functionName(method) };
}

/** No name that a template's own variables could have. */
function functionName(method: string): string {
  return `python ${method}`;
}

function stripStart(text: string, characters: string): string {
  const set = new Set(characters);
  let start = 0;
  for (const character of text) {
    if (!set.has(character)) break;
    start += character.length;
  }
  return text.slice(start);
}

function stripEnd(text: string, characters: string): string {
  const reversed = Array.from(text).reverse();
  return Array.from(stripStart(reversed.join(""), characters))
    .reverse()
    .join("");
}
