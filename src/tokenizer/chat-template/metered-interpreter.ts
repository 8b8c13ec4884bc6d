import type { Cost, Costs, Node } from "./costs.js";
import { FrugalInterpreter } from "./frugal-interpreter.js";
import { loopVariable } from "./loop-variable.js";
import { newScope, type Scope, toValue, type Value } from "./values.js";

/** Work is counted in characters read or written; a node's evaluation takes as long as this many. */
const STEP = 16;
/** A name that nobody declared is found by an exception. */
const UNKNOWN_NAME = 1024;
/** A turn of a loop makes a scope, even if there is nothing in it to evaluate. */
const TURN = 256;
/** Sorting compares each element this often, about. */
const SORTING = 24;
/** What a container's element, and a value that is no text, count for. */
const ELEMENT = 24;
const SCALAR = 8;
/** Work that a rendering may take: a base, and so much for each character of what is rendered. */
const WORK = { base: 32e6, perCharacter: 64 };
/** Size of any one value, likewise. */
const SIZE = { base: 1e6, perCharacter: 4 };
/** Separators, indents, replacements and what is searched for: what a single step multiplies a text by. */
const LONGEST_ARGUMENT = 128;

/**
 * Renders a template within bounds of work and size that grow with what it renders, so that no template loops or
 * allocates without end. The bounds are five times and more what Qwen3's template takes; they count, and do not look at
 * the clock, so that a conversation is either always taken or never.
 *
 * The interpreter calls `evaluate` for each node. What it does between two such calls takes time in proportion to the
 * values it is given and makes, and these are counted; the few steps that multiply (`replace`, `join` and the like) are
 * held to short arguments. A version that adds steps of that kind has to be read for them first: it is pinned.
 */
export class MeteredInterpreter extends FrugalInterpreter {
  readonly #costs: Costs;
  readonly #weights = new WeakMap<object, number>();
  readonly #largest: number;
  #work: number;

  constructor(costs: Costs, variables: Record<string, unknown>) {
    super(scopeOf(variables, GLOBALS));
    this.#costs = costs;
    this.#largest = Number.POSITIVE_INFINITY;
    this.#work = Number.POSITIVE_INFINITY;
    let size = 0;
    for (const name of Object.keys(variables)) {
      const { type, value } = this.global.variables.get(name) as Value;
      size += this.#weigh(type, value);
    }
    this.#largest = SIZE.base + SIZE.perCharacter * size;
    this.#work = WORK.base + WORK.perCharacter * size;
  }

  override evaluate(node: Node | undefined, scope: Scope): Value {
    this.#spend(STEP);
    if (node === undefined) return super.evaluate(node, scope);
    const cost = this.#costs.of(node);
    const value = cost.constant ?? super.evaluate(node, scope);
    if (value !== undefined) this.#account(node, cost, value);
    return value;
  }

  /** As `run`, in steps: its own loops pause after so many turns. */
  *steps(program: Node, turns: number): Generator<void, string> {
    let text = "";
    for (const statement of program.body as Node[]) {
      const list = this.#costs.of(statement).stepped
        ? this.evaluate(statement.iterable as Node, this.global)
        : null;
      if (list?.type === "ArrayValue") text += yield* this.#loop(statement, list.value as Value[], turns);
      else text += this.evaluateBlock([statement], this.global).value;
    }
    return text;
  }

  /** As the interpreter's own loop. */
  *#loop({ loopvar, body, defaultBlock }: Node, items: Value[], turns: number): Generator<void, string> {
    const scope = newScope(this.global);
    if (items.length === 0) return this.evaluateBlock(defaultBlock as Node[], scope).value as string;
    let text = "";
    for (const [i, item] of items.entries()) {
      if (i > 0 && i % turns === 0) yield;
      scope.setVariable("loop", loopVariable(this.#costs.loopMembers, items, i));
      scope.setVariable((loopvar as Node).value as string, item);
      text += this.evaluateBlock(body as Node[], scope).value;
    }
    this.#spend(text.length);
    return text;
  }

  /** Takes the cost of a node's value from the work that is left. */
  #account(node: Node, cost: Cost, { type, value }: Value): void {
    const times = cost.sorting ? SORTING : 1;
    if (typeof value === "string") {
      if (value.length > this.#largest) throw new Error("it makes a text too large");
      this.#spend(value.length * times);
    } else if (typeof value === "object" && value !== null) {
      if (!refers(node) || cost.consumed) this.#spend(this.#weigh(type, value) * times);
      if (cost.looped) this.#spend(TURN * (value instanceof Map ? value.size : (value as []).length));
    } else if (type === "UndefinedValue" && node.type === "Identifier") this.#spend(UNKNOWN_NAME);
    else if (type === "FunctionValue" && node.type === "MemberExpression") {
      if (node.computed || !cost.called) throw new Error("it calls a method in a roundabout way");
    }
    if (node.type === "Macro" || node.type === "CallStatement") this.#spend(STEP * this.#costs.nodes);
    if (cost.short) this.#requireShort(type, value);
  }

  #spend(work: number): void {
    this.#work -= work;
    if (this.#work < 0) throw new Error("it takes more work than any chat template should: does it end?");
  }

  #requireShort(type: string, value: unknown): void {
    const size = typeof value === "number" ? value : this.#weigh(type, value);
    if (!(size <= LONGEST_ARGUMENT)) {
      throw new Error("it searches, joins, indents or replaces with a text too long");
    }
  }

  /** Characters in a value and all it holds, with something for each part. */
  #weigh(type: string, value: unknown): number {
    if (typeof value === "string") return value.length;
    if (typeof value !== "object" || value === null) return SCALAR;
    const known = this.#weights.get(value);
    if (known !== undefined) return known;
    let weight = ELEMENT;
    const weighPart = (part: Value) => {
      // It changes, so its weight would be another one later.
      if (part.type === "NamespaceValue") throw new Error("it puts a namespace into another value");
      weight += ELEMENT + this.#weigh(part.type, part.value);
    };
    if (value instanceof Map) {
      for (const [key, part] of value as Map<string, Value>) {
        weight += key.length;
        weighPart(part);
      }
    } else for (const part of value as Value[]) weighPart(part);
    if (weight > this.#largest) throw new Error("it makes a value too large");
    if (type !== "NamespaceValue") this.#weights.set(value, weight);
    return weight;
  }
}

/** Whether a node's value is one that was there before. */
function refers(node: Node): boolean {
  if (node.type === "MemberExpression") return (node.property as Node).type !== "SliceExpression";
  return node.type === "Identifier";
}
const GIVEN = { true: true, false: false, none: null, True: true, False: false, None: null };
/** What Jinja gives every template. None writes to it, but to scopes of its own. */
const GLOBALS = scopeOf({ ...GIVEN, range, raise_exception: raise });

function scopeOf(variables: Record<string, unknown>, parent?: Scope): Scope {
  const scope = newScope(parent);
  for (const [name, value] of Object.entries(variables)) scope.setVariable(name, toValue(value));
  return scope;
}

const LONGEST_RANGE = 10_000;

function range(start: number, stop?: number, step = 1): number[] {
  const [first, end] = stop === undefined ? [0, start] : [start, stop];
  const count = Math.max(0, Math.ceil((end - first) / step));
  if (!(count <= LONGEST_RANGE)) throw new Error(`its range has more than ${LONGEST_RANGE} numbers`);
  return Array.from({ length: count }, (_, i) => first + i * step);
}

function raise(message: unknown): never {
  throw new Error(typeof message === "string" ? message : "it raises an exception");
}
