/**
 * Every kind of device there is, by the name users give it. What it takes to know of one is in `kinds.ts`, which looks for
 * libraries.
 */
export const DEVICE_KIND_NAMES = ["cpu", "cuda"] as const;

export type DeviceKindName = (typeof DEVICE_KIND_NAMES)[number];

/** The kinds that may serve a model better than the CPU, which serves every one. */
export const ACCELERATORS = DEVICE_KIND_NAMES.filter((name) => name !== "cpu");
