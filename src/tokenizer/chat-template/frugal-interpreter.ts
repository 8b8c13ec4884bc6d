import { Interpreter } from "@huggingface/jinja";
import type { Node } from "./costs.js";
import { EMPTY, isTrue, NULL, type Scope, toValue, truth, UNDEFINED, type Value } from "./values.js";

/** The package's types do not resolve in an ES module. */
const BaseInterpreter = Interpreter as unknown as new (
  scope: Scope,
) => {
  readonly global: Scope;
  run(program: Node): Value;
  evaluate(node: Node | undefined, scope: Scope): Value;
  evaluateBlock(statements: Node[], scope: Scope): Value;
  evaluateIdentifier(node: Node, scope: Scope): Value;
  evaluateMemberExpression(node: Node, scope: Scope): Value;
  evaluateUnaryExpression(node: Node, scope: Scope): Value;
  evaluateBinaryExpression(node: Node, scope: Scope): Value;
  evaluateIf(node: Node, scope: Scope): Value;
  evaluateSet(node: Node, scope: Scope): Value;
};

/** For a method of the library's that evaluates parts of a node, where these are values already. */
const EVALUATED = { evaluate: (value: Value) => value };
const OBJECTS_METHODS = new Set(toValue({}).builtins.keys());

/**
 * The library's interpreter, at a quarter of the time. To make a value takes it 0.2 µs, a table of methods several, and a name
 * that nobody declared an exception; and it makes values for names, comparisons and blocks that nobody keeps. What is not here
 * is the library's own.
 */
export class FrugalInterpreter extends BaseInterpreter {
  override evaluateBlock(statements: Node[], scope: Scope): Value {
    let text = "";
    let last = EMPTY;
    for (const statement of statements) {
      const value = this.evaluate(statement, scope);
      if (value.type === "NullValue" || value.type === "UndefinedValue") continue;
      text += value.toString();
      last = value;
    }
    return last.value === text ? last : toValue(text);
  }

  override evaluateIdentifier({ value: name }: Node, scope: Scope): Value {
    for (let known: Scope | undefined = scope; known; known = known.parent) {
      const value = known.variables.get(name as string);
      if (value !== undefined || known.variables.has(name as string)) return value ?? UNDEFINED;
    }
    return UNDEFINED;
  }

  override evaluateMemberExpression(node: Node, scope: Scope): Value {
    const { value: name } = node.property as Node;
    if (node.computed || typeof name !== "string") return super.evaluateMemberExpression(node, scope);
    const object = this.evaluate(node.object as Node, scope);
    if (!(object.value instanceof Map)) return object.builtins.get(name) ?? UNDEFINED;
    const own: Value | undefined = object.value.get(name);
    return own ?? (OBJECTS_METHODS.has(name) ? object.builtins.get(name) : undefined) ?? UNDEFINED;
  }

  override evaluateUnaryExpression(node: Node, scope: Scope): Value {
    if ((node.operator as Node).value !== "not") return super.evaluateUnaryExpression(node, scope);
    return truth(!isTrue(this.evaluate(node.argument as Node, scope)));
  }

  override evaluateBinaryExpression(node: Node, scope: Scope): Value {
    const { value: operator } = node.operator as Node;
    if (operator === "and" || operator === "or") {
      const left = this.evaluate(node.left as Node, scope);
      return isTrue(left) === (operator === "and") ? this.evaluate(node.right as Node, scope) : left;
    }
    const left = this.evaluate(node.left as Node, scope);
    const right = this.evaluate(node.right as Node, scope);
    if (operator === "==" || operator === "!=") {
      // biome-ignore lint/suspicious/noDoubleEquals: as the library compares.
      const equal = left.value == right.value;
      return truth(equal === (operator === "=="));
    }
    if (operator === "+" && typeof left.value === "string" && typeof right.value === "string") {
      return toValue(left.value + right.value);
    }
    return super.evaluateBinaryExpression.call(
      EVALUATED,
      { operator: node.operator, left, right } as never,
      scope,
    );
  }

  override evaluateIf(node: Node, scope: Scope): Value {
    const holds = isTrue(this.evaluate(node.test as Node, scope));
    return this.evaluateBlock((holds ? node.body : node.alternate) as Node[], scope);
  }

  override evaluateSet(node: Node, scope: Scope): Value {
    const { type, value: name } = node.assignee as Node;
    if (type !== "Identifier" || !node.value) return super.evaluateSet(node, scope);
    scope.setVariable(name as string, this.evaluate(node.value as Node, scope));
    return NULL;
  }
}
