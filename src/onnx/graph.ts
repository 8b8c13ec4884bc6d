import {
  type Attribute,
  DATA_SIZE,
  type DataType,
  type Dim,
  type OnnxGraph,
  type OnnxModel,
  type OnnxNode,
  type OnnxValue,
} from "./model.js";

/** Receives a tensor's bytes piece by piece, in order. A piece may be reused once the promise resolves. */
export type Sink = (bytes: Uint8Array) => Promise<void>;

/** A constant of the graph whose bytes are produced only when the model is written. */
export interface Initializer {
  name: string;
  type: DataType;
  dims: number[];
  bytes: number;
  write: (sink: Sink) => Promise<void>;
}

type AttributeValue = number | string | number[] | OnnxGraph;

/** ORT's own operators. */
export const MICROSOFT = "com.microsoft";

/** Attributes that are floats in the operators' schemas even where the number is whole. */
const FLOAT_ATTRIBUTES = new Set(["epsilon", "qk_norm_epsilon", "scale", "alpha"]);

/** Nodes and constants by name, in the order they were added. */
export class Graph {
  /** Version of ONNX's own operators. */
  opset = 18;
  /** Whether the nodes from here on may get no token at all. */
  mayBeEmpty = false;
  readonly nodes: OnnxNode[] = [];
  readonly inputs: OnnxValue[] = [];
  readonly outputs: OnnxValue[] = [];
  readonly #constants: Map<string, Initializer>;

  /** @param constants those of the graph around, for a branch of it */
  constructor(constants = new Map<string, Initializer>()) {
    this.#constants = constants;
  }

  get initializers(): Initializer[] {
    return [...this.#constants.values()];
  }

  get opsets(): OnnxModel["opsets"] {
    return [
      { domain: "", version: this.opset },
      { domain: MICROSOFT, version: 1 },
    ];
  }

  input(name: string, type: DataType, dims: Dim[]): string {
    this.inputs.push({ name, type, dims });
    return name;
  }

  output(name: string, type: DataType, dims: Dim[]): void {
    this.outputs.push({ name, type, dims });
  }

  /** A branch of an `If`: its nodes see this graph's values, and its constants are this graph's. */
  branch(): Graph {
    return new Graph(this.#constants);
  }

  /** Adds a node; returns its outputs' names. An empty input or output name is an optional one left out. */
  node(
    op: string,
    inputs: string[],
    outputs: string[],
    attributes: Record<string, AttributeValue> = {},
    domain = "",
  ): void {
    this.nodes.push({
      op,
      domain,
      name: `${outputs[0]}.${op}`,
      inputs,
      outputs,
      attributes: Object.entries(attributes).map(([name, value]) => toAttribute(name, value)),
    });
  }

  /** Adds a node with one output and returns the output's name. */
  add(
    op: string,
    inputs: string[],
    output: string,
    attributes: Record<string, AttributeValue> = {},
    domain = "",
  ): string {
    this.node(op, inputs, [output], attributes, domain);
    return output;
  }

  /** Adds a constant whose bytes are streamed when the model is written. */
  initializer(name: string, type: DataType, dims: number[], write: Initializer["write"]): string {
    if (!this.#constants.has(name)) {
      const bytes = dims.reduce((n, dim) => n * dim, DATA_SIZE[type]);
      this.#constants.set(name, { name, type, dims, bytes, write });
    }
    return name;
  }

  /** Adds a constant that is at hand. The same name twice is the same constant. */
  constant(
    name: string,
    type: DataType,
    dims: number[],
    data: Float32Array | BigInt64Array | Uint8Array | Int8Array | Uint16Array,
  ): string {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return this.initializer(name, type, dims, (sink) => sink(bytes));
  }

  /** A one-dimensional int64 constant: shapes, split sizes, axes. */
  ints(name: string, values: number[]): string {
    return this.constant(name, "int64", [values.length], BigInt64Array.from(values, BigInt));
  }
}

function toAttribute(name: string, value: AttributeValue): Attribute {
  if (typeof value === "string") return { name, value: { string: value } };
  if (Array.isArray(value)) return { name, value: { ints: value } };
  if (typeof value === "object") return { name, value: { graph: value } };
  if (FLOAT_ATTRIBUTES.has(name)) return { name, value: { float: value } };
  return { name, value: { int: value } };
}
