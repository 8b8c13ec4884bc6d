import { Float16Array } from "@petamoriken/float16";

/** Element types of the weights that can be read. */
export type SourceDtype = "BF16" | "F16" | "F32";

export const BYTES_PER_VALUE: Record<SourceDtype, number> = { BF16: 2, F16: 2, F32: 4 };

/**
 * Widens little-endian `source` into `target` (float32, one value for each of the source's) and returns the index
 * of the first NaN or infinity, or -1. Both must be aligned to their own element size.
 */
export function widen(dtype: SourceDtype, source: Uint8Array, target: Float32Array): number {
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  if (dtype === "F32") {
    new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(source);
  } else {
    const halves = new Uint16Array(source.buffer, source.byteOffset, target.length);
    if (dtype === "BF16") widenBfloat16(halves, bits);
    else widenFloat16(halves, bits);
  }
  return hasNonFinite(bits) ? bits.findIndex((word) => (word & EXPONENT) === EXPONENT) : -1;
}

const EXPONENT = 0x7f800000;

function widenBfloat16(halves: Uint16Array, bits: Uint32Array): void {
  for (let i = 0; i < bits.length; i++) bits[i] = halves[i] << 16;
}

let float16Bits: Uint32Array | undefined;

function widenFloat16(halves: Uint16Array, bits: Uint32Array): void {
  float16Bits ??= new Uint32Array(
    new Float32Array(new Float16Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer)).buffer,
  );
  const table = float16Bits;
  for (let i = 0; i < bits.length; i++) bits[i] = table[halves[i]];
}

/** An exponent of all ones means NaN or infinity: adding one to it carries into the sign's place. */
function hasNonFinite(bits: Uint32Array): boolean {
  let carry = 0;
  for (let i = 0; i < bits.length; i++) carry |= (bits[i] & EXPONENT) + 0x00800000;
  return carry < 0;
}
