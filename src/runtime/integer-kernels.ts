import { DeviceError } from "../errors.js";
import { Binding } from "./binding.js";
import { cpu } from "./devices/cpu.js";
import type { Memory } from "./memory.js";
import { Session } from "./session.js";
import { ELEMENT, type ElementType, Tensor } from "./tensor.js";

const DEPTH = 256;
const WIDTH = 64;
/** One row takes another kernel than several do, and few another than many. */
const ROWS = [1, 3, 16];

/** Whether sessions need `widenBytes` here, for weights whose sums fit 16 bits and for others. Found out once in a process. */
const needed = new Map<boolean, Promise<boolean>>();

/**
 * Finds the kernels that multiply bytes exactly. Processors without VNNI add pairs of u8 × s8 products in 16 bits, where
 * the largest are cut off without notice: there, the weights must be such that none is too large (`quantizeRows`), or the
 * slower u8 × u8 kernels must do. Trying out beats reading the processor's flags: what counts is which kernel ONNX Runtime
 * takes, and which products it pairs.
 *
 * @param sumsFit16Bits whether the weights are such
 * @returns whether sessions that multiply bytes must be loaded with `widenBytes`
 * @throws {DeviceError} KERNEL_INEXACT
 */
export function mustWidenBytes(sumsFit16Bits = false): Promise<boolean> {
  let answer = needed.get(sumsFit16Bits);
  if (!answer) {
    answer = findKernels(sumsFit16Bits);
    needed.set(sumsFit16Bits, answer);
  }
  return answer;
}

/** The same, without a memory of earlier answers. */
export async function findKernels(sumsFit16Bits = false): Promise<boolean> {
  const weights = sumsFit16Bits ? largestInPairs() : largest();
  for (const widenBytes of [false, true]) if (await areExact(weights, widenBytes)) return widenBytes;
  throw new DeviceError(
    "KERNEL_INEXACT",
    "This processor multiplies bytes inexactly, so w8a8 would judge wrongly. " +
      "Export the checkpoint with --dtype int8 or int4 instead.",
  );
}

/** A column of the largest weights, one of the smallest, one of mixed ones, and so on: [DEPTH, WIDTH]. */
function largest(): Int8Array {
  return Int8Array.from({ length: DEPTH * WIDTH }, (_, i) => {
    const column = i % WIDTH;
    return column % 3 === 0 ? 127 : column % 3 === 1 ? -127 : ((i * 37) % 255) - 127;
  });
}

/** The same where each pair of rows sums to 128 at most, and the pairs that begin at odd rows to 254. */
function largestInPairs(): Int8Array {
  const pairs = [
    [127, 1, 1, 127],
    [-127, -1, -1, -127],
    [64, 64, 127, -127],
  ];
  return Int8Array.from(
    { length: DEPTH * WIDTH },
    (_, i) => pairs[(i % WIDTH) % 3][Math.floor(i / WIDTH) % 4],
  );
}

/** Multiplies the largest bytes there are with such weights. */
async function areExact(weights: Int8Array, widenBytes: boolean): Promise<boolean> {
  // For models of bytes alone: others have no use for what writes a model.
  const { productModel } = await import("./product-model.js");
  const session = await Session.loadBytes(productModel(weights, DEPTH, WIDTH), { threads: 1, widenBytes });
  try {
    for (const rows of ROWS) {
      for (const value of [255, 1]) {
        const product = await multiply(session, rows, value);
        for (let i = 0; i < product.length; i++) {
          let expected = 0;
          for (let k = 0; k < DEPTH; k++) expected += (value - 128) * weights[k * WIDTH + (i % WIDTH)];
          if (product[i] !== expected) return false;
        }
      }
    }
    return true;
  } finally {
    session.release();
  }
}

/** Rows of one and the same byte times the weights. */
async function multiply(session: Session, rows: number, value: number): Promise<Float32Array> {
  const memories: Memory[] = [];
  const allocate = (type: ElementType, dims: number[]) => {
    const memory = cpu.allocate(dims.reduce((n, dim) => n * dim, ELEMENT[type].bytes));
    memories.push(memory);
    return { memory, tensor: Tensor.view(memory, 0, type, dims) };
  };
  const binding = new Binding(session);
  const input = allocate("uint8", [rows, DEPTH]);
  const output = allocate("float32", [rows, WIDTH]);
  try {
    new Uint8Array(input.memory.view()).fill(value);
    binding.input("a", input.tensor);
    binding.output("y", output.tensor);
    await binding.run();
    return Float32Array.from(new Float32Array(output.memory.view()));
  } finally {
    binding.release();
    input.tensor.release();
    output.tensor.release();
    for (const memory of memories) memory.free();
  }
}
