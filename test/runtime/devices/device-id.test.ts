import { expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import { CPU, deviceName, parseDevice } from "../../../src/runtime/devices/device-id.js";

test.each([
  ["auto", "auto"],
  ["cpu", CPU],
  ["cuda", { kind: "cuda", index: 0 }],
  ["cuda:0", { kind: "cuda", index: 0 }],
  ["cuda:12", { kind: "cuda", index: 12 }],
])("%s", (name, expected) => {
  expect(parseDevice(name)).toEqual(expected);
});

test.each(["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:1.5", "cuda:1234", "cuda:0x", " cpu"])(
  "%j is refused",
  (name) => {
    expect(() => parseDevice(name)).toThrow(InputError);
    expect(() => parseDevice(name)).toThrow(expect.objectContaining({ code: "UNKNOWN_DEVICE" }));
  },
);

test("a device's name is parsed back to the same device", () => {
  expect(deviceName(CPU)).toBe("cpu");
  for (const name of ["cpu", "cuda:0", "cuda:7"]) {
    expect(deviceName(parseDevice(name) as typeof CPU)).toBe(name);
  }
});
