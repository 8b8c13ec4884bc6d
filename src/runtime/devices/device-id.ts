import { InputError } from "../../errors.js";
import { ACCELERATORS, type DeviceKindName } from "./kind-names.js";

/** How users name a device: auto is a GPU where it works and else the CPU, cuda is the first GPU. */
export type DeviceName = "auto" | DeviceKindName | `${Exclude<DeviceKindName, "cpu">}:${number}`;

/** Where a session runs and its memory lies. */
export interface DeviceId {
  readonly kind: DeviceKindName;
  /** Which of several GPUs; 0 for the processor. */
  readonly index: number;
}

export const CPU: DeviceId = { kind: "cpu", index: 0 };

/** @throws {InputError} UNKNOWN_DEVICE */
export function parseDevice(name: string): DeviceId | "auto" {
  if (name === "auto") return "auto";
  if (name === "cpu") return CPU;
  const [, kind, index = "0"] = /^([a-z]+)(?::(\d{1,3}))?$/.exec(name) ?? [];
  if (!ACCELERATORS.some((known) => known === kind)) {
    const names = ["auto", "cpu", ...ACCELERATORS].join(", ");
    const numbered = ACCELERATORS.map((kind) => `${kind}:N`).join(", ");
    throw new InputError("UNKNOWN_DEVICE", `Unknown device "${name}". Choose ${names} or ${numbered}.`);
  }
  return { kind: kind as DeviceKindName, index: Number(index) };
}

/** "cpu" or "cuda:0". */
export function deviceName({ kind, index }: DeviceId): string {
  return kind === "cpu" ? kind : `${kind}:${index}`;
}
