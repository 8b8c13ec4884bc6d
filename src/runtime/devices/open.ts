import { cpu } from "./cpu.js";
import { CudaDevice } from "./cuda/device.js";
import type { Device } from "./device.js";
import type { DeviceId } from "./device-id.js";
import type { DeviceKindName } from "./kinds.js";

const OPEN: Record<DeviceKindName, (id: DeviceId) => Promise<Device>> = {
  cpu: async () => cpu,
  cuda: CudaDevice.open,
};

/** Opens a device for one session, which takes it over. @throws {DeviceError} where it cannot be used */
export function openDevice(id: DeviceId): Promise<Device> {
  return OPEN[id.kind](id);
}
