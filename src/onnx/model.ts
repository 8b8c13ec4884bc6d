import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/** TensorProto.DataType */
const DATA_TYPE = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  float16: 10,
  bfloat16: 16,
} as const;

export type DataType = keyof typeof DATA_TYPE;

/** Bytes an element. */
export const DATA_SIZE: Record<DataType, number> = {
  float32: 4,
  uint8: 1,
  int8: 1,
  int32: 4,
  int64: 8,
  float16: 2,
  bfloat16: 2,
};

export type Dim = number | string;

export interface Attribute {
  name: string;
  value: { int: number } | { float: number } | { string: string } | { ints: number[] } | { graph: OnnxGraph };
}

export interface OnnxNode {
  op: string;
  domain: string;
  name: string;
  inputs: string[];
  outputs: string[];
  attributes: Attribute[];
}

export interface OnnxTensor {
  name: string;
  type: DataType;
  dims: number[];
  /** Little-endian bytes kept in the model file, or where they lie in the external data file. */
  data: Uint8Array | { file: string; offset: number; length: number };
}

export interface OnnxValue {
  name: string;
  type: DataType;
  dims: Dim[];
}

/** The graph of a model, or a branch of one of its nodes: a branch sees all values of the graph around it. */
export interface OnnxGraph {
  nodes: OnnxNode[];
  tensors?: OnnxTensor[];
  inputs: OnnxValue[];
  outputs: OnnxValue[];
}

export interface OnnxModel {
  producer: string;
  producerVersion: string;
  opsets: { domain: string; version: number }[];
  graph: OnnxGraph;
}

// Field numbers from onnx.proto3 (ONNX IR version 10).
const IR_VERSION = 10;

/** Serializes a ModelProto. */
export function encodeModel(model: OnnxModel): Uint8Array {
  const w = new BinaryWriter();
  int(w, 1, IR_VERSION);
  string(w, 2, model.producer);
  string(w, 3, model.producerVersion);
  message(w, 7, () => encodeGraph(w, "guard", model.graph));
  for (const { domain, version } of model.opsets) {
    message(w, 8, () => {
      string(w, 1, domain);
      int(w, 2, version);
    });
  }
  return w.finish();
}

function encodeGraph(w: BinaryWriter, name: string, graph: OnnxGraph): void {
  for (const node of graph.nodes) message(w, 1, () => encodeNode(w, node));
  string(w, 2, name);
  for (const tensor of graph.tensors ?? []) message(w, 5, () => encodeTensor(w, tensor));
  for (const value of graph.inputs) message(w, 11, () => encodeValue(w, value));
  for (const value of graph.outputs) message(w, 12, () => encodeValue(w, value));
}

function encodeNode(w: BinaryWriter, node: OnnxNode): void {
  for (const input of node.inputs) string(w, 1, input);
  for (const output of node.outputs) string(w, 2, output);
  string(w, 3, node.name);
  string(w, 4, node.op);
  for (const { name, value } of node.attributes) {
    message(w, 5, () => {
      string(w, 1, name);
      // AttributeProto.AttributeType: FLOAT 1, INT 2, STRING 3, GRAPH 5, INTS 7.
      if ("float" in value) {
        w.tag(2, WireType.Bit32).float(value.float);
        int(w, 20, 1);
      } else if ("int" in value) {
        int(w, 3, value.int);
        int(w, 20, 2);
      } else if ("string" in value) {
        string(w, 4, value.string);
        int(w, 20, 3);
      } else if ("graph" in value) {
        message(w, 6, () => encodeGraph(w, name, value.graph));
        int(w, 20, 5);
      } else {
        for (const item of value.ints) int(w, 8, item);
        int(w, 20, 7);
      }
    });
  }
  if (node.domain) string(w, 7, node.domain);
}

function encodeTensor(w: BinaryWriter, tensor: OnnxTensor): void {
  for (const dim of tensor.dims) int(w, 1, dim);
  int(w, 2, DATA_TYPE[tensor.type]);
  string(w, 8, tensor.name);
  const { data } = tensor;
  if (data instanceof Uint8Array) {
    w.tag(9, WireType.LengthDelimited).bytes(data);
    return;
  }
  const entries = { location: data.file, offset: String(data.offset), length: String(data.length) };
  for (const [key, value] of Object.entries(entries)) {
    message(w, 13, () => {
      string(w, 1, key);
      string(w, 2, value);
    });
  }
  int(w, 14, 1); // DataLocation.EXTERNAL
}

function encodeValue(w: BinaryWriter, value: OnnxValue): void {
  string(w, 1, value.name);
  message(w, 2, () =>
    message(w, 1, () => {
      int(w, 1, DATA_TYPE[value.type]);
      message(w, 2, () => {
        for (const dim of value.dims) {
          message(w, 1, () => (typeof dim === "number" ? int(w, 1, dim) : string(w, 2, dim)));
        }
      });
    }),
  );
}

function int(w: BinaryWriter, field: number, value: number): void {
  w.tag(field, WireType.Varint).int64(value);
}

function string(w: BinaryWriter, field: number, value: string): void {
  w.tag(field, WireType.LengthDelimited).string(value);
}

function message(w: BinaryWriter, field: number, write: () => void): void {
  w.tag(field, WireType.LengthDelimited).fork();
  write();
  w.join();
}
