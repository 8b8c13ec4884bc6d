import { Environment } from "@huggingface/jinja";

/** A string, a number, …; an array's or object's values are Values themselves. None changes but a namespace. */
export interface Value {
  type: string;
  value: unknown;
  /** Methods and the like by name, made for each value when it is first asked for them. */
  builtins: Map<string, Value>;
  __bool__(): Value;
  toString(): string;
}

export interface Scope {
  parent?: Scope;
  variables: Map<string, Value>;
  set(name: string, value: unknown): Value;
  setVariable(name: string, value: Value): void;
}

export function newScope(parent?: Scope): Scope {
  return new Environment(parent as never) as unknown as Scope;
}

const MAKER = newScope();

/** As the library makes a value of JavaScript's its own. */
function madeOf(value: unknown): Value {
  const made = MAKER.set("value", value);
  MAKER.variables.delete("value");
  return made;
}

export const UNDEFINED = madeOf(undefined);
export const NULL = madeOf(null);
export const EMPTY = madeOf("");
const TRUE = madeOf(true);
const FALSE = madeOf(false);

const STRING = Object.getPrototypeOf(EMPTY);
const INTEGER = Object.getPrototypeOf(madeOf(0));
const ARRAY = Object.getPrototypeOf(madeOf([]));
const OBJECT = Object.getPrototypeOf(madeOf({}));

/**
 * A value as its class makes it, at a tenth of the time: each of the library's classes declares its fields anew, and V8 then
 * looks up with every value where they go.
 */
function make(prototype: object, type: string, value: unknown): Value {
  const made = Object.create(prototype);
  made.type = type;
  made.value = value;
  return made;
}

/** A value of JavaScript's as the library has it. */
export function toValue(value: unknown): Value {
  if (typeof value === "string") return make(STRING, "StringValue", value);
  if (typeof value === "boolean") return truth(value);
  if (Number.isInteger(value)) return make(INTEGER, "IntegerValue", value);
  if (Array.isArray(value)) return make(ARRAY, "ArrayValue", value.map(toValue));
  if (typeof value !== "object" || value === null) return madeOf(value);
  const members = Object.entries(value).map(([name, member]) => [name, toValue(member)] as const);
  return make(OBJECT, "ObjectValue", new Map(members));
}

export function truth(holds: boolean): Value {
  return holds ? TRUE : FALSE;
}

/** Lists and objects know for themselves. */
export function isTrue(value: Value): boolean {
  const own = value.value;
  return Boolean(typeof own === "object" && own !== null ? value.__bool__().value : own);
}
