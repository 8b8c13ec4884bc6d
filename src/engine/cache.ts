import type { Device } from "../runtime/devices/device.js";
import type { Memory } from "../runtime/memory.js";
import { ELEMENT, type ElementType, Tensor } from "../runtime/tensor.js";

/** What is copied at once: about a millisecond's worth. */
const COPY_BYTES = 4 * 2 ** 20;

export interface CacheShape {
  layers: number;
  kvHeads: number;
  headDim: number;
  type: ElementType;
  /** Number of sequences held at once. */
  slots: number;
  /** Positions a slot holds, in tokens. */
  capacity: number;
}

/** Bytes one slot takes when it is full. */
export function slotBytes(shape: Omit<CacheShape, "slots">): number {
  return 2 * shape.layers * rowBytes(shape);
}

/** Bytes of one slot in one layer's keys or values. */
function rowBytes({ kvHeads, capacity, headDim, type }: Omit<CacheShape, "slots">): number {
  return kvHeads * capacity * headDim * ELEMENT[type].bytes;
}

/**
 * The KV cache: for each layer one block of keys and one of values, [slots, kv_heads, capacity, head_dim]. A sequence
 * owns a slot; consecutive slots are a batch without a copy. On the CPU memory is touched only as positions fill.
 */
export class KvCache {
  readonly shape: CacheShape;
  readonly #device: Device;
  readonly #blocks: Memory[] = [];

  /** @throws {DeviceError} OUT_OF_MEMORY */
  constructor(shape: CacheShape, device: Device) {
    this.shape = shape;
    this.#device = device;
    try {
      for (let i = 0; i < 2 * shape.layers; i++) {
        this.#blocks.push(device.allocate(shape.slots * rowBytes(shape)));
      }
    } catch (error) {
      this.free();
      throw error;
    }
  }

  /** Slots first … first + count − 1 of every block, in the order layer 0 keys, layer 0 values, layer 1 keys, … */
  view(first: number, count: number): Tensor[] {
    const { kvHeads, capacity, headDim, type } = this.shape;
    const offset = first * rowBytes(this.shape);
    return this.#blocks.map((block) => Tensor.view(block, offset, type, [count, kvHeads, capacity, headDim]));
  }

  /** One slot's values of every block, in the order of `view`, for a cache of float32 on the CPU. */
  contents(slot: number): Float32Array[] {
    const bytes = rowBytes(this.shape);
    return this.#blocks.map((block) => new Float32Array(block.view(), slot * bytes, bytes / 4));
  }

  /**
   * Copies the first `tokens` positions of a slot to another, in pieces that let the event loop go on. Between runs: no
   * kernel may be at work on either slot.
   *
   * @param wanted asked after each piece: the rest is left where it says no
   * @throws {DeviceError} CUDA_ERROR
   */
  async copy(from: number, to: number, tokens: number, wanted = () => true): Promise<void> {
    const { kvHeads, capacity, headDim, type } = this.shape;
    const token = headDim * ELEMENT[type].bytes;
    const row = rowBytes(this.shape);
    const most = Math.max(1, Math.floor(COPY_BYTES / (kvHeads * token)));
    let copied = 0;
    for (const block of this.#blocks) {
      for (let at = 0; at < tokens; at += most) {
        const count = Math.min(most, tokens - at);
        const [begin, end] = [from, to].map((slot) => slot * row + at * token);
        const rows = { from: begin, to: end, pitch: capacity * token, width: count * token, height: kvHeads };
        this.#device.copyRows(block, rows);
        copied += kvHeads * count * token;
        if (copied < COPY_BYTES) continue;
        copied = 0;
        await new Promise(setImmediate);
        if (!wanted()) return;
      }
    }
  }

  free(): void {
    for (const block of this.#blocks.splice(0)) block.free();
  }
}
