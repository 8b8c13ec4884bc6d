import { DeviceError, InputError } from "../errors.js";
import type { Device, DeviceMemory } from "../runtime/devices/device.js";
import { deviceName } from "../runtime/devices/device-id.js";
import { type CacheShape, slotBytes } from "./cache.js";

/** One part in so many of the memory may hold what free slots keep. */
const KEPT_SHARE = 8;

/** What a cache may take of a device's memory. */
export interface MemoryBudget extends DeviceMemory {
  /** "cpu", "cuda:0", for messages. */
  name: string;
  /** Streams by default, where there is room for more. */
  usual: number;
}

/** Measures on a GPU: call it once the model is loaded. */
export function memoryBudget(device: Device): MemoryBudget {
  return { ...device.memory(), name: deviceName(device.id), usual: device.defaults.streams };
}

/**
 * Streams to make room for when nobody says how many: up to the usual number, in half of the memory; the other half is
 * for others, such as the LLM that is watched.
 */
export function defaultSlots(slotBytes: number, budget: MemoryBudget): number {
  return Math.max(1, Math.min(budget.usual, Math.floor(budget.bytes / 2 / slotBytes)));
}

/** @throws {DeviceError} OUT_OF_MEMORY with what is needed and what is there, where memory is taken at once */
export function requireMemory(slots: number, slotBytes: number, budget: MemoryBudget): void {
  if (budget.takenAsFilled) return;
  const free = budget.bytes - budget.reserved;
  if (slots * slotBytes <= free) return;
  const fitting = Math.max(0, Math.floor(free / slotBytes));
  throw new DeviceError(
    "OUT_OF_MEMORY",
    `${slots} ${slots === 1 ? "stream" : "streams"} of maxTokens take ${gibibytes(slots * slotBytes)} of cache on ` +
      `${budget.name}, where ${gibibytes(Math.max(0, free))} can be had: room for ${fitting}. ` +
      "Lower maxStreams or maxTokens, or free memory there.",
  );
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

/** Tokens that free slots keep for later streams, as the option says. @throws {InputError} OPTION_INVALID */
export function keptTokens(
  option: false | { maxTokens?: number } | undefined,
  shape: CacheShape,
  { bytes, takenAsFilled }: DeviceMemory,
): number {
  if (option === false) return 0;
  const all = shape.slots * shape.capacity;
  if (option?.maxTokens !== undefined) {
    return whole("prefixCache.maxTokens", option.maxTokens, Number.MAX_SAFE_INTEGER);
  }
  // Where memory is taken as it fills, what stays warm is not there for others.
  const share = Math.floor(bytes / KEPT_SHARE / slotBytes({ ...shape, capacity: 1 }));
  return takenAsFilled ? Math.min(all, share) : all;
}

/** An option's value, if it is a whole number in its range. @throws {InputError} OPTION_INVALID */
export function whole(name: string, value: number, highest: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= highest) return value;
  throw new InputError(
    "OPTION_INVALID",
    `${name} is ${value}; it must be a whole number from 1 to ${highest}.`,
  );
}
