import { Template } from "@huggingface/jinja";
import { atOnce } from "../slices.js";
import { Costs, type Node } from "./costs.js";
import { MeteredInterpreter } from "./metered-interpreter.js";

/** What `str.strip`, `str.lstrip` and `str.rstrip` do with an argument, by the name the template calls them. */
const STRIPS: Record<string, (text: string, characters: string) => string> = {
  strip: (text, characters) => stripEnd(stripStart(text, characters), characters),
  lstrip: stripStart,
  rstrip: stripEnd,
};

const FUNCTIONS = Object.fromEntries(
  Object.entries(STRIPS).map(([name, strip]) => [
    functionName(name),
    (text: unknown, characters: unknown) => {
      if (typeof text === "string" && typeof characters === "string") return strip(text, characters);
      throw new Error(`its ${name}() is not of a text, or not with one`);
    },
  ]),
);

/** Messages that are templated without a break: well below a millisecond's work. */
const TURNS_A_STEP = 32;

/** Qwen3's has 4,000 characters. */
const LONGEST_SOURCE = 1 << 18;

/**
 * A Jinja template as Python renders it. `@huggingface/jinja` ignores the argument of `lstrip('\n')` and its
 * kin and strips all white space: such calls are turned into calls of functions that honour it.
 */
export class JinjaTemplate {
  readonly #program: Node;
  #costs: Costs;

  /** Throws an Error when the source is no template, or one without end. */
  constructor(source: string) {
    if (source.length > LONGEST_SOURCE) throw new Error(`It has ${source.length} characters.`);
    this.#program = new Template(source).parsed;
    redirectStrips(this.#program);
    this.#costs = new Costs(this.#program);
  }

  /** Replaces the template's own texts, as it writes them and as it compares with them. */
  rewrite(text: (own: string) => string): void {
    rewriteTexts(this.#program, text);
    this.#costs = new Costs(this.#program);
  }

  /** Throws an Error where the template refuses what it is given, or takes more work than a template should. */
  render(variables: Record<string, unknown>): string {
    return atOnce(this.steps(variables));
  }

  /** As `render`, in steps of a few milliseconds where what takes long is a loop over messages. */
  steps(variables: Record<string, unknown>): Generator<void, string> {
    const interpreter = new MeteredInterpreter(this.#costs, { ...variables, ...FUNCTIONS });
    return interpreter.steps(this.#program, TURNS_A_STEP);
  }
}

function redirectStrips(node: unknown): void {
  if (typeof node !== "object" || node === null) return;
  for (const child of node instanceof Map ? node : Object.values(node)) redirectStrips(child);
  const call = node as Node;
  const callee = call.callee as Node | undefined;
  if (call.type !== "CallExpression" || callee?.type !== "MemberExpression" || callee.computed) return;
  const args = call.args as unknown[];
  const method = (callee.property as Node).value as string;
  if (!Object.hasOwn(STRIPS, method) || args.length !== 1) return;
  call.args = [callee.object, ...args];
  call.callee = { type: "Identifier", value: functionName(method) };
}

function rewriteTexts(node: unknown, text: (own: string) => string): void {
  if (typeof node !== "object" || node === null) return;
  for (const child of node instanceof Map ? node : Object.values(node)) rewriteTexts(child, text);
  const literal = node as Node;
  if (literal.type === "StringLiteral") literal.value = text(literal.value as string);
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
  const set = new Set(characters);
  let end = text.length;
  while (end > 0) {
    const pair = end > 1 && (text.codePointAt(end - 2) as number) > 0xffff;
    const start = pair ? end - 2 : end - 1;
    if (!set.has(text.slice(start, end))) break;
    end = start;
  }
  return text.slice(0, end);
}
