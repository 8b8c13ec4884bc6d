import { Float16Array, f16round } from "@petamoriken/float16";
import type { DataType } from "./model.js";

/** Float types that weights and activations can have in a graph. */
export type FloatType = Extract<DataType, "float32" | "float16" | "bfloat16">;

const FLOAT = new Float32Array(1);
const BITS = new Uint32Array(FLOAT.buffer);

/** Little-endian bytes of `values` in `type`, rounded to nearest even. */
export function encodeFloats(values: Float32Array, type: FloatType): Uint8Array {
  if (type === "float32") return bytesOf(values);
  if (type === "float16") return bytesOf(new Float16Array(values));
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = toBfloat16(bits[i]);
  return bytesOf(out);
}

/** The nearest value that `type` holds. */
export function roundTo(type: FloatType, value: number): number {
  if (type === "float32") return Math.fround(value);
  if (type === "float16") return f16round(value);
  FLOAT[0] = value;
  BITS[0] = toBfloat16(BITS[0]) << 16;
  return FLOAT[0];
}

/** The upper half of a float32's bits, rounded to nearest even. */
function toBfloat16(bits: number): number {
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** The same memory as bytes. */
export function bytesOf(array: {
  buffer: ArrayBufferLike;
  byteOffset: number;
  byteLength: number;
}): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
