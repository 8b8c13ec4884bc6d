import { totalmem } from "node:os";
import { DeviceError } from "../errors.js";
import { deviceMemory } from "../ort/cuda/runtime.js";
import { type Place, placeName } from "../ort/place.js";

/** What a cache may take of a place's memory. */
export interface Room {
  /** Bytes that are free; on the CPU all there are, since a slot takes memory only as it fills. */
  bytes: number;
  /** Of these, what the kernels' own workspaces need. */
  reserved: number;
  /** "cuda:0", for messages. */
  name: string;
  /** Streams by default, where there is room for more. */
  usual: number;
}

/** Activations of the longest chunk, cuBLAS, recorded steps: about half of this at the 8B shape. Not measured. */
const WORKSPACE_BYTES = 2 ** 30;

/** Measures on a GPU: call it once the model is loaded. */
export function roomAt(place: Place): Room {
  const name = placeName(place);
  return place.kind === "cpu"
    ? { bytes: totalmem(), reserved: 0, name, usual: 16 }
    : { bytes: deviceMemory(place).free, reserved: WORKSPACE_BYTES, name, usual: 64 };
}

/**
 * Streams to make room for when nobody says how many: up to the usual number, in half of the memory; the other half is
 * for others, such as the LLM that is watched.
 */
export function defaultSlots(slotBytes: number, room: Room): number {
  return Math.max(1, Math.min(room.usual, Math.floor(room.bytes / 2 / slotBytes)));
}

/** @throws {DeviceError} OUT_OF_MEMORY with what is needed and what is there */
export function requireRoom(slots: number, slotBytes: number, room: Room): void {
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
