import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { blockSize } from "../../../src/export/formats/blockwise.js";
import { type Bits, quantizeBlocks, quantizeRows } from "../../../src/export/formats/quantize.js";
import { encodeFloats, roundTo } from "../../../src/onnx/float.js";

const matrices = fc
  .record({ rows: fc.integer({ min: 1, max: 4 }), columns: fc.integer({ min: 1, max: 70 }) })
  .chain(({ rows, columns }) =>
    fc.record({
      rows: fc.constant(rows),
      columns: fc.constant(columns),
      data: fc.float32Array({
        minLength: rows * columns,
        maxLength: rows * columns,
        min: -100,
        max: 100,
        noNaN: true,
      }),
    }),
  );

describe.each([8, 4] as const)("blocks of %i bits", (bits) => {
  test("no value is further off than its block's rounding allows", () => {
    fc.assert(
      fc.property(matrices, fc.constantFrom(16, 32), ({ rows, columns, data }, block) => {
        const { values, scales } = quantizeBlocks(data, rows, columns, block, bits);
        const back = dequantize(values, scales, rows, columns, block, bits);
        const blocks = Math.ceil(columns / block);
        for (let i = 0; i < data.length; i++) {
          const row = Math.floor(i / columns);
          const first = row * columns + Math.floor((i % columns) / block) * block;
          const members = data.subarray(first, Math.min(first + block, (row + 1) * columns));
          const scale = Math.abs(scales[row * blocks + Math.floor((i % columns) / block)]);
          const extreme = members.reduce((high, x) => Math.max(high, Math.abs(x)), 0);
          // Half a step; the end opposite of the extreme may be cut by one step.
          expect(scale).toBeLessThanOrEqual((extreme / 2 ** (bits - 1)) * 1.3 + 1e-30);
          expect(Math.abs(back[i] - data[i])).toBeLessThanOrEqual((extreme / 2 ** (bits - 1)) * 1.3 + 1e-6);
        }
      }),
    );
  });

  test.each(["bfloat16", "float16"] as const)(
    "scales stored as %s are those that were counted in",
    (type) => {
      const data = Float32Array.from({ length: 256 }, (_, i) => Math.sin(i * 12.9898) * 3.7);
      const { values, scales } = quantizeBlocks(data, 4, 64, 32, bits, type);
      expect([...encodeFloats(scales, type)]).toEqual(
        [...scales].flatMap((scale) => [...encodeFloats(Float32Array.of(scale), type)]),
      );
      expect([...scales].map((scale) => roundTo(type, scale))).toEqual([...scales]);
      const back = dequantize(values, scales, 4, 64, 32, bits);
      back.forEach((x, i) => {
        const scale = Math.abs(scales[Math.floor(i / 32)]);
        // Half a step, and the ends may be cut by one more where rounding made the scale smaller.
        expect(Math.abs(x - data[i])).toBeLessThanOrEqual(scale * 1.51);
      });
    },
  );

  test("zeros stay zeros", () => {
    const { values, scales } = quantizeBlocks(new Float32Array(40), 1, 40, 32, bits);
    expect(dequantize(values, scales, 1, 40, 32, bits).every((x) => x === 0)).toBe(true);
  });
});

test("rows: no value is further off than half a step, and −128 never appears", () => {
  fc.assert(
    fc.property(matrices, ({ rows, columns, data }) => {
      const { values, scales } = quantizeRows(data, rows, columns);
      for (let i = 0; i < data.length; i++) {
        const scale = scales[Math.floor(i / columns)];
        expect(values[i]).toBeGreaterThanOrEqual(-127);
        expect(Math.abs(values[i] * scale - data[i])).toBeLessThanOrEqual(scale * 0.5001 + 1e-30);
      }
    }),
  );
});

test("rows: products of two neighbours with unsigned bytes sum to 16 bits", () => {
  fc.assert(
    fc.property(matrices, ({ rows, columns, data }) => {
      const { values } = quantizeRows(data, rows, columns);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column + 1 < columns; column += 2) {
          const [a, b] = values.subarray(row * columns + column);
          expect(255 * (Math.max(a, 0) + Math.max(b, 0))).toBeLessThan(2 ** 15);
          expect(255 * (Math.min(a, 0) + Math.min(b, 0))).toBeGreaterThanOrEqual(-(2 ** 15));
        }
      }
    }),
  );
});

test("rows: a large pair costs no more steps than it must", () => {
  // 100 + 27 fill the range; of one sign and the other, each counts alone.
  expect([...quantizeRows(Float32Array.of(100, 27, 0, -127), 1, 4).values]).toEqual([100, 27, 0, -127]);
  expect([...quantizeRows(Float32Array.of(127, -127), 1, 2).values]).toEqual([127, -127]);
  expect([...quantizeRows(Float32Array.of(2, 2, 3), 1, 3).values]).toEqual([64, 64, 95]);
});

test("a block divides the row wherever it can", () => {
  expect([1024, 3072, 64, 80, 176, 48, 50].map(blockSize)).toEqual([128, 128, 64, 16, 16, 16, 32]);
});

test("bfloat16 rounds to nearest, ties to even", () => {
  const floats = new Uint32Array([0x3f808000, 0x3f818000, 0x3f808001, 0xbf807fff]);
  const bytes = encodeFloats(new Float32Array(floats.buffer), "bfloat16");
  expect([...new Uint16Array(bytes.buffer)]).toEqual([0x3f80, 0x3f82, 0x3f81, 0xbf80]);
});

function dequantize(
  values: Uint8Array,
  scales: Float32Array,
  rows: number,
  columns: number,
  block: number,
  bits: Bits,
): Float32Array {
  const blocks = Math.ceil(columns / block);
  const out = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const index = (row * blocks + Math.floor(column / block)) * block + (column % block);
      const q = bits === 8 ? values[index] : (values[index >> 1] >> (4 * (index & 1))) & 15;
      out[row * columns + column] = (q - 2 ** (bits - 1)) * scales[row * blocks + Math.floor(column / block)];
    }
  }
  return out;
}
