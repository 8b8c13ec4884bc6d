import { InputError } from "../errors.js";
import { type Device, DTYPES, type Dtype } from "../model/manifest.js";
import { DEVICE_KIND_NAMES, DEVICE_KINDS } from "../runtime/devices/kinds.js";
import type { Target } from "./qwen3.js";

/** @throws {InputError} UNKNOWN_DTYPE, UNKNOWN_DEVICE, DTYPE_NEEDS_CPU and others by the device whose kernels take it */
export function chooseTarget(dtype: Dtype, device: Device): Target {
  if (!DTYPES.includes(dtype)) {
    throw new InputError("UNKNOWN_DTYPE", `Unknown dtype "${dtype}". Choose one of ${DTYPES.join(", ")}.`);
  }
  if (!Object.hasOwn(DEVICE_KINDS, device)) {
    throw new InputError(
      "UNKNOWN_DEVICE",
      `Unknown device "${device}". Choose ${DEVICE_KIND_NAMES.join(" or ")}.`,
    );
  }
  const { title, graph } = DEVICE_KINDS[device];
  if (!Object.hasOwn(graph.formats, dtype)) {
    const other = DEVICE_KIND_NAMES.find((name) => dtype in DEVICE_KINDS[name].graph.formats) as Device;
    throw new InputError(
      `DTYPE_NEEDS_${other.toUpperCase()}`,
      `${title}'s kernels do not take ${dtype}. Choose ${Object.keys(graph.formats).join(", ")}, or export with ` +
        `--device ${other}.`,
    );
  }
  const { fusedQkNorm, asksForOutputs } = graph;
  return { activation: graph.formats[dtype], fusedQkNorm, asksForOutputs };
}

/** The format of a device where nobody names one. */
export function usualFormat(device: Device): Dtype {
  return (DEVICE_KINDS[device]?.graph.usualFormat ?? "fp32") as Dtype;
}
