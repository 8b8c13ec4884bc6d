import { type Handle, ortApi } from "./api.js";
import type { Memory } from "./memory.js";

/** ONNXTensorElementDataType, and bytes an element. */
export const ELEMENT = {
  float32: { onnx: 1, bytes: 4 },
  uint8: { onnx: 2, bytes: 1 },
  int8: { onnx: 3, bytes: 1 },
  int32: { onnx: 6, bytes: 4 },
  int64: { onnx: 7, bytes: 8 },
  float16: { onnx: 10, bytes: 2 },
  bfloat16: { onnx: 16, bytes: 2 },
} as const;

export type ElementType = keyof typeof ELEMENT;

/** An OrtValue over memory that somebody else owns and keeps alive. */
export class Tensor {
  readonly handle: Handle;

  private constructor(handle: Handle) {
    this.handle = handle;
  }

  /** Views a part of `memory`, starting at `offset` bytes, without a copy. */
  static view(memory: Memory, offset: number, type: ElementType, shape: readonly number[]): Tensor {
    const dims = BigInt64Array.from(shape, BigInt);
    const bytes = shape.reduce((n, dim) => n * dim, ELEMENT[type].bytes);
    if (offset < 0 || offset + bytes > memory.bytes) {
      throw new RangeError(`view of ${bytes} bytes at ${offset} leaves memory of ${memory.bytes} bytes`);
    }
    const handle = ortApi().create(
      "CreateTensorWithDataAsOrtValue",
      memory.info,
      memory.address + BigInt(offset),
      bytes,
      dims,
      dims.length,
      ELEMENT[type].onnx,
    );
    return new Tensor(handle);
  }

  release(): void {
    ortApi().release("ReleaseValue", this.handle);
  }
}
