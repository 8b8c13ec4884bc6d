import { Float16Array } from "@petamoriken/float16";
import { expect, test } from "vitest";
import { type SourceDtype, widen } from "../../src/checkpoint/dtype.js";

const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);

function widened(
  dtype: SourceDtype,
  source: Uint8Array,
  length: number,
): { values: Float32Array; bad: number } {
  const values = new Float32Array(length);
  return { bad: widen(dtype, source, values), values };
}

function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

test("every bfloat16 becomes the float32 with the same upper half", () => {
  const { values } = widened("BF16", new Uint8Array(halves.buffer), 65536);
  expect(bits(values).every((word, i) => word === (i << 16) >>> 0)).toBe(true);
});

test("every finite float16 keeps its value, subnormals and -0 too", () => {
  const { values } = widened("F16", new Uint8Array(halves.buffer), 65536);
  const wanted = new Float16Array(halves.buffer);
  expect(values.every((value, i) => Object.is(value, wanted[i]))).toBe(true);
  expect(values[0x3555]).toBe(0.333251953125);
  expect(values[1]).toBe(2 ** -24);
});

test("float32 is copied bit by bit", () => {
  const source = Float32Array.of(1.5, -0, 3.4e38, 1e-45, Math.fround(Math.PI));
  const { values, bad } = widened("F32", new Uint8Array(source.buffer), 5);
  expect(bits(values)).toEqual(bits(source));
  expect(bad).toBe(-1);
});

const SPECIALS: Record<SourceDtype, { one: number; bad: number[]; good: number[] }> = {
  BF16: {
    one: 0x3f80,
    bad: [0x7f80, 0xff80, 0x7fc0, 0x7f81, 0xffff],
    good: [0x7f7f, 0xff7f, 0x8000, 0x0001],
  },
  F16: { one: 0x3c00, bad: [0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff], good: [0x7bff, 0xfbff, 0x8000, 0x0001] },
  F32: {
    one: 0x3f800000,
    bad: [0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001],
    good: [0x7f7fffff, 0xff7fffff],
  },
};

test.each(["BF16", "F16", "F32"] as const)(
  "%s: finds a NaN or infinity at any place, and nothing else",
  (dtype) => {
    const { one, bad, good } = SPECIALS[dtype];
    const Words = dtype === "F32" ? Uint32Array : Uint16Array;
    for (const length of [1, 2, 7, 8]) {
      for (let at = 0; at < length; at++) {
        for (const word of [...bad, ...good]) {
          const source = new Words(length + (length % 2)).fill(one);
          source[at] = word;
          const found = widened(dtype, new Uint8Array(source.buffer), length).bad;
          expect(found, `${word.toString(16)} at ${at} of ${length}`).toBe(bad.includes(word) ? at : -1);
        }
      }
    }
  },
);
