import { loopMembers } from "./loop-variable.js";
import { toValue, type Value } from "./values.js";

/** Of a template's syntax tree. */
export interface Node {
  type: string;
  [field: string]: unknown;
}

/** Filters that look at their operand without going through it. */
const GLANCES = ["length", "count", "first", "last", "safe", "list", "default", "d"];
/** Filters and methods whose arguments multiply a text's length, or a search's time. */
const MULTIPLIES = ["replace", "join", "indent", "tojson", "split"];
const SORTS = ["sort", "dictsort", "tojson"];

/** What a node costs beyond its own result. */
export class Cost {
  /** Its container is gone through, copied or spelled out, not only referred to. */
  consumed = false;
  /** Its value must be short. */
  short = false;
  /** A member that is called where it is named. */
  called = false;
  sorting = false;
  looped = false;
  /** A loop of the program's own that can be left between two turns. */
  stepped = false;
  /** What a literal is, whenever it is evaluated. */
  constant: Value | undefined;
}

/** What a template's nodes cost, found once for all renderings. */
export class Costs {
  /** Nodes in all. A macro's definition is searched through each time it is come upon. */
  nodes = 0;
  /** Members of `loop` that are looked at. */
  readonly loopMembers: readonly string[];
  readonly #costs = new Map<object, Cost>();
  /** Of `loop`: what is named of it, and how often it is named without. */
  readonly #named = new Set<string>();
  #whole = 0;

  constructor(program: Node) {
    this.#visit(program);
    this.loopMembers = loopMembers(this.#whole === 0 ? this.#named : null);
    for (const statement of program.body as Node[]) this.of(statement).stepped = isPlainLoop(statement);
  }

  of(node: Node): Cost {
    const known = this.#costs.get(node);
    if (known !== undefined) return known;
    const cost = new Cost();
    this.#costs.set(node, cost);
    return cost;
  }

  #visit(value: unknown): void {
    if (value instanceof Map) for (const entry of value) this.#visit(entry);
    else if (Array.isArray(value)) for (const item of value) this.#visit(item);
    else if (isNode(value)) {
      this.nodes++;
      this.#note(value);
      for (const child of Object.values(value)) this.#visit(child);
    }
  }

  #note(node: Node): void {
    this.#noteValue(node);
    for (const block of [node.body, node.alternate, node.defaultBlock]) {
      if (Array.isArray(block)) for (const statement of block) this.of(statement).consumed = true;
    }
    if (node.type === "For") {
      const iterable = node.iterable as Node;
      const over = iterable.type === "SelectExpression" ? iterable.lhs : iterable;
      this.#consume(over);
      this.of(over as Node).looped = true;
    } else if (node.type === "SpreadExpression" || node.type === "KeywordSpreadExpression") {
      this.#consume(node.argument);
    } else if (node.type === "BinaryExpression") {
      const operator = (node.operator as { value: string }).value;
      this.#consume(node.left, operator !== "and" && operator !== "or");
      this.#consume(node.right, operator !== "and" && operator !== "or");
      if (operator === "in" || operator === "not in") this.of(node.left as Node).short = true;
    } else if (node.type === "FilterExpression" || node.type === "FilterStatement") {
      const filter = node.filter as Node;
      const call = filter.type === "CallExpression";
      const name = (call ? (filter.callee as Node).value : filter.value) as string;
      this.#consume(node.operand, !GLANCES.includes(name));
      if (SORTS.includes(name)) this.of(node).sorting = true;
      if (call) this.#limit(name, filter.args as Node[]);
    } else if (
      node.type === "CallExpression" &&
      isNode(node.callee) &&
      node.callee.type === "MemberExpression"
    ) {
      const name = (node.callee.property as Node).value as string;
      this.of(node.callee).called = true;
      if (SORTS.includes(name)) this.of(node).sorting = true;
      this.#limit(name, node.args as Node[]);
    }
  }

  /** What its value will be, as far as that is known beforehand. */
  #noteValue(node: Node): void {
    const { type, value } = node;
    const literal = type === "StringLiteral" || (type === "IntegerLiteral" && Number.isInteger(value));
    if (literal) this.of(node).constant = toValue(value);
    if (isLoop(node)) this.#whole++;
    if (type !== "MemberExpression" || node.computed || !isLoop(node.object as Node)) return;
    this.#named.add((node.property as Node).value as string);
    this.#whole--;
  }

  #consume(node: unknown, does = true): void {
    if (does && isNode(node)) this.of(node).consumed = true;
  }

  #limit(name: string, args: Node[]): void {
    if (!MULTIPLIES.includes(name)) return;
    for (const arg of args) {
      const given = arg.type === "KeywordArgumentExpression" ? arg.value : (arg.argument ?? arg);
      this.of(given as Node).short = true;
    }
  }
}

function isLoop({ type, value }: Node): boolean {
  return type === "Identifier" && value === "loop";
}

/** Whether a statement is a loop over a list, with one name, that goes through all of it. */
function isPlainLoop({ type, loopvar, iterable, body }: Node): boolean {
  if (type !== "For" || (loopvar as Node).type !== "Identifier") return false;
  return (iterable as Node).type !== "SelectExpression" && !leaves(body);
}

/** Whether a loop is left, or a turn of it, in the middle. */
function leaves(value: unknown): boolean {
  if (isNode(value) && (value.type === "Break" || value.type === "Continue")) return true;
  return typeof value === "object" && value !== null && Object.values(value).some(leaves);
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && typeof (value as Node).type === "string";
}
