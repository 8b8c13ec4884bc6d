import { basename } from "node:path";
import type { Guard } from "../guard.js";
import { packageInfo } from "../package/info.js";
import type { GuardInfo } from "./protocol.js";

/** @param model as it was asked for; undefined for the embedded one */
export async function describeGuard(guard: Guard, model: string | undefined): Promise<GuardInfo> {
  const { version } = await packageInfo();
  const { manifest, labels, device, maxStreams, maxTokens } = guard;
  return {
    version,
    model: model === undefined ? "embedded" : basename(model),
    embedded: model === undefined,
    dtype: manifest.dtype,
    kvCache: manifest.kvCache,
    device,
    maxStreams,
    maxTokens,
    labels,
  };
}
