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

/** What a template's nodes cost beyond their own result, found once for all renderings. */
export class Costs {
  /** Their containers are gone through, copied or spelled out, not only referred to. */
  readonly consumed = new WeakSet<object>();
  /** Their values must be short. */
  readonly short = new WeakSet<object>();
  /** Members that are called where they are named. */
  readonly called = new WeakSet<object>();
  readonly sorting = new WeakSet<object>();
  readonly looped = new WeakSet<object>();
  /** Loops of the program's own that can be left between two turns. */
  readonly stepped = new WeakSet<object>();
  /** Nodes in all. A macro's definition is searched through each time it is come upon. */
  nodes = 0;

  constructor(program: Node) {
    this.#visit(program);
    for (const statement of program.body as Node[]) if (isPlainLoop(statement)) this.stepped.add(statement);
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
    for (const block of [node.body, node.alternate, node.defaultBlock]) {
      if (Array.isArray(block)) for (const statement of block) this.consumed.add(statement);
    }
    if (node.type === "For") {
      const iterable = node.iterable as Node;
      const over = iterable.type === "SelectExpression" ? iterable.lhs : iterable;
      this.#consume(over);
      this.looped.add(over as Node);
    } else if (node.type === "SpreadExpression" || node.type === "KeywordSpreadExpression") {
      this.#consume(node.argument);
    } else if (node.type === "BinaryExpression") {
      const operator = (node.operator as { value: string }).value;
      this.#consume(node.left, operator !== "and" && operator !== "or");
      this.#consume(node.right, operator !== "and" && operator !== "or");
      if (operator === "in" || operator === "not in") this.short.add(node.left as Node);
    } else if (node.type === "FilterExpression" || node.type === "FilterStatement") {
      const filter = node.filter as Node;
      const call = filter.type === "CallExpression";
      const name = (call ? (filter.callee as Node).value : filter.value) as string;
      this.#consume(node.operand, !GLANCES.includes(name));
      if (SORTS.includes(name)) this.sorting.add(node);
      if (call) this.#limit(name, filter.args as Node[]);
    } else if (
      node.type === "CallExpression" &&
      isNode(node.callee) &&
      node.callee.type === "MemberExpression"
    ) {
      const name = (node.callee.property as Node).value as string;
      this.called.add(node.callee);
      if (SORTS.includes(name)) this.sorting.add(node);
      this.#limit(name, node.args as Node[]);
    }
  }

  #consume(node: unknown, does = true): void {
    if (does && isNode(node)) this.consumed.add(node);
  }

  #limit(name: string, args: Node[]): void {
    if (!MULTIPLIES.includes(name)) return;
    for (const arg of args) {
      const given = arg.type === "KeywordArgumentExpression" ? arg.value : (arg.argument ?? arg);
      this.short.add(given as Node);
    }
  }
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
