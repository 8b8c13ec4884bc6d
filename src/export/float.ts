import { Float16Array } from "@petamoriken/float16";
import type { DataType } from "./onnx.js";

/** Float types that weights and activations can have in a graph. */
export type FloatType = Extract<DataType, "float32" | "float16" | "bfloat16">;

/** Little-endian bytes of `values` in `type`, rounded to nearest even. */
export function encodeFloats(values: Float32Array, type: FloatType): Uint8Array {
  if (type === "float32") return bytesOf(values);
  if (type === "float16") return bytesOf(new Float16Array(values));
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) >>> 16;
  return bytesOf(out);
}

/** The same memory as bytes. */
export function bytesOf(array: {
  buffer: ArrayBufferLike;
  byteOffset: number;
  byteLength: number;
}): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
