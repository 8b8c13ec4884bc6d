import { DeviceError } from "../errors.js";
import type { Device, DeviceMemory } from "../ort/devices/device.js";
import { placeName } from "../ort/devices/place.js";

/** What a cache may take of a device's memory. */
export interface Room extends DeviceMemory {
  /** "cpu", "cuda:0", for messages. */
  name: string;
  /** Streams by default, where there is room for more. */
  usual: number;
}

/** Measures on a GPU: call it once the model is loaded. */
export function roomAt(device: Device): Room {
  return { ...device.memory(), name: placeName(device.place), usual: device.defaults.streams };
}

/**
 * Streams to make room for when nobody says how many: up to the usual number, in half of the memory; the other half is
 * for others, such as the LLM that is watched.
 */
export function defaultSlots(slotBytes: number, room: Room): number {
  return Math.max(1, Math.min(room.usual, Math.floor(room.bytes / 2 / slotBytes)));
}

/** @throws {DeviceError} OUT_OF_MEMORY with what is needed and what is there, where memory is taken at once */
export function requireRoom(slots: number, slotBytes: number, room: Room): void {
  if (room.takenAsFilled) return;
  const free = room.bytes - room.reserved;
  if (slots * slotBytes <= free) return;
  const fitting = Math.max(0, Math.floor(free / slotBytes));
  throw new DeviceError(
    "OUT_OF_MEMORY",
    `${slots} ${slots === 1 ? "stream" : "streams"} of maxTokens take ${gibibytes(slots * slotBytes)} of cache on ` +
      `${room.name}, where ${gibibytes(Math.max(0, free))} can be had: room for ${fitting}. ` +
      "Lower maxStreams or maxTokens, or free memory there.",
  );
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
