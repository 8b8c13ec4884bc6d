import { cpu } from "./cpu.js";
import { CudaDevice } from "./cuda/device.js";
import type { Device } from "./device.js";
import type { DeviceKindName } from "./kinds.js";
import type { Place } from "./place.js";

const OPEN: Record<DeviceKindName, (place: Place) => Promise<Device>> = {
  cpu: async () => cpu,
  cuda: CudaDevice.open,
};

/** Opens a device for one session, which takes it over. @throws {DeviceError} where it cannot be used */
export function openDevice(place: Place): Promise<Device> {
  return OPEN[place.kind](place);
}
