import { InputError } from "../errors.js";

/** How users name a device: auto is CUDA where it works and else the CPU, cuda is the first GPU. */
export type DeviceName = "auto" | "cpu" | "cuda" | `cuda:${number}`;

/** Where a session runs and its memory lies. */
export interface Place {
  readonly kind: "cpu" | "cuda";
  /** Which of several GPUs; 0 for the processor. */
  readonly index: number;
}

export const CPU: Place = { kind: "cpu", index: 0 };

/** @throws {InputError} UNKNOWN_DEVICE */
export function parseDevice(name: string): Place | "auto" {
  if (name === "auto") return "auto";
  if (name === "cpu") return CPU;
  const index = name === "cuda" ? "0" : /^cuda:(\d{1,3})$/.exec(name)?.[1];
  if (index === undefined) {
    throw new InputError("UNKNOWN_DEVICE", `Unknown device "${name}". Choose auto, cpu, cuda or cuda:N.`);
  }
  return { kind: "cuda", index: Number(index) };
}

/** "cpu" or "cuda:0". */
export function placeName({ kind, index }: Place): string {
  return kind === "cpu" ? kind : `${kind}:${index}`;
}
