import { createRequire } from "node:module";

/** Element types of the weights that can be read. */
export type SourceDtype = "BF16" | "F16" | "F32";

export const BYTES_PER_VALUE: Record<SourceDtype, number> = { BF16: 2, F16: 2, F32: 4 };

/**
 * Widens little-endian `source` into `target` (float32, one value for each of the source's) and returns the index
 * of the first NaN or infinity, or -1. Both must start at a multiple of 4 bytes in their buffers.
 */
export function widen(dtype: SourceDtype, source: Uint8Array, target: Float32Array): number {
  const bits = new Int32Array(target.buffer, target.byteOffset, target.length);
  const suspicious = WIDENERS[dtype](source, bits);
  return suspicious ? bits.findIndex((word) => (word & EXPONENT) === EXPONENT) : -1;
}

/**
 * Each returns whether a NaN or infinity went through. Those have an exponent of all ones, so that adding one to it
 * carries into the sign's place: one addition a value and a single test at the end.
 */
const WIDENERS: Record<SourceDtype, (source: Uint8Array, bits: Int32Array) => boolean> = {
  BF16: widenBfloat16,
  F16: widenFloat16,
  F32: copyFloat32,
};

const EXPONENT = 0x7f800000;
const EXPONENT_ONE = 0x00800000;

/** Two values a step: twice as fast as one. */
function widenBfloat16(source: Uint8Array, bits: Int32Array): boolean {
  const pairs = new Int32Array(source.buffer, source.byteOffset, bits.length >> 1);
  let carry = 0;
  for (let i = 0; i < pairs.length; i++) {
    const pair = pairs[i];
    bits[2 * i] = pair << 16;
    bits[2 * i + 1] = pair & 0xffff0000;
    carry |= (pair & 0x7f807f80) + 0x00800080;
  }
  if (bits.length % 2 === 1) {
    const last = bits.length - 1;
    bits[last] = (source[2 * last] << 16) | (source[2 * last + 1] << 24);
    carry |= (bits[last] & EXPONENT) + EXPONENT_ONE;
  }
  return (carry & 0x80008000) !== 0;
}

let float16Bits: Int32Array | undefined;

function widenFloat16(source: Uint8Array, bits: Int32Array): boolean {
  float16Bits ??= readFloat16();
  const table = float16Bits;
  const halves = new Uint16Array(source.buffer, source.byteOffset, bits.length);
  let carry = 0;
  for (let i = 0; i < bits.length; i++) {
    const word = table[halves[i]];
    bits[i] = word;
    carry |= (word & EXPONENT) + EXPONENT_ONE;
  }
  return carry < 0;
}

/** Each of the 65,536 as a float32's bits. */
function readFloat16(): Int32Array {
  // Loaded here, since few checkpoints hold any.
  const require = createRequire(import.meta.url);
  const { Float16Array }: typeof import("@petamoriken/float16") = require("@petamoriken/float16");
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
  return new Int32Array(new Float32Array(new Float16Array(all.buffer)).buffer);
}

function copyFloat32(source: Uint8Array, bits: Int32Array): boolean {
  bits.set(new Int32Array(source.buffer, source.byteOffset, bits.length));
  let carry = 0;
  for (let i = 0; i < bits.length; i++) carry |= (bits[i] & EXPONENT) + EXPONENT_ONE;
  return carry < 0;
}
