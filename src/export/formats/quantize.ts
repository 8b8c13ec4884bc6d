import { type FloatType, roundTo } from "../../onnx/float.js";

export type Bits = 4 | 8;

/**
 * Symmetric block quantization as MatMulNBits reads it: each run of `block` values of a row gets one scale,
 * w ≈ (q − 2^(bits−1)) · scale with q unsigned; at 4 bits the even column is the low nibble.
 *
 * @param data [rows, columns] float32
 * @param scaleType what the scales will be stored as: values are counted in steps of what a kernel will read
 * @returns values [rows, ceil(columns / block), block · bits / 8] uint8, scales [rows, ceil(columns / block)] float32
 */
export function quantizeBlocks(
  data: Float32Array,
  rows: number,
  columns: number,
  block: number,
  bits: Bits,
  scaleType: FloatType = "float32",
): { values: Uint8Array; scales: Float32Array } {
  const blocks = Math.ceil(columns / block);
  const zero = 1 << (bits - 1);
  const highest = 2 * zero - 1;
  const values = new Uint8Array((rows * blocks * block * bits) / 8);
  const scales = new Float32Array(rows * blocks);
  const unpacked = bits === 8 ? values : new Uint8Array(block);
  for (let index = 0; index < rows * blocks; index++) {
    const from = Math.floor(index / blocks) * columns + (index % blocks) * block;
    const width = Math.min(block, columns - (index % blocks) * block);
    const scale = roundTo(scaleType, blockScale(data, from, width, zero));
    scales[index] = scale;
    const inverse = scale === 0 ? 0 : 1 / scale;
    const to = bits === 8 ? index * block : 0;
    for (let i = 0; i < width; i++) {
      // What is at least zero is rounded by cutting it off: twice as fast as Math.round.
      const steps = data[from + i] * inverse + zero + 0.5;
      unpacked[to + i] = steps < 0 ? 0 : steps > highest ? highest : steps | 0;
    }
    for (let i = width; i < block; i++) unpacked[to + i] = zero;
    if (bits === 4) {
      const packed = (index * block) / 2;
      for (let i = 0; i < block; i += 2) values[packed + i / 2] = unpacked[i] | (unpacked[i + 1] << 4);
    }
  }
  return { values, scales };
}

/** Puts the value of largest magnitude on the range's longer, negative end, so all 2^bits steps are used. */
function blockScale(data: Float32Array, from: number, width: number, zero: number): number {
  let largest = 0;
  let extreme = 0;
  for (let i = from; i < from + width; i++) {
    const magnitude = Math.abs(data[i]);
    if (magnitude <= largest) continue;
    largest = magnitude;
    extreme = data[i];
  }
  return extreme / -zero;
}

/** Largest magnitude of a signed byte that its opposite has too. */
export const HIGHEST = 127;

/**
 * Symmetric quantization with one scale a row: w ≈ q · scale, such that kernels which sum products with unsigned bytes in
 * pairs of 16 bits are exact. A pair is a value at an even place and the one after it: q + q' is at most 128 either way, and
 * 255 · 128 fits. Kernels without that weakness lose two fifths of a bit by it (docs/formats.md).
 *
 * @param data [rows, columns] float32
 * @returns values [rows, columns] int8 in −127 … 127, scales [rows] float32
 */
export function quantizeRows(
  data: Float32Array,
  rows: number,
  columns: number,
): { values: Int8Array; scales: Float32Array } {
  const values = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const from = row * columns;
    const extreme = largestInPairs(data, from, columns);
    scales[row] = extreme / HIGHEST;
    const inverse = extreme === 0 ? 0 : HIGHEST / extreme;
    for (let i = from; i < from + columns; i++) values[i] = Math.round(data[i] * inverse);
  }
  return { values, scales };
}

/** The largest magnitude of a value or of a pair's sum; rounding adds at most half a step for each of the two. */
function largestInPairs(data: Float32Array, from: number, columns: number): number {
  let extreme = 0;
  for (let i = 0; i < columns; i += 2) {
    const first = data[from + i];
    const second = i + 1 < columns ? data[from + i + 1] : 0;
    extreme = Math.max(extreme, Math.abs(first), Math.abs(second), Math.abs(first + second));
  }
  return extreme;
}
