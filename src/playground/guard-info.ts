import { basename } from "node:path";
import type { Guard } from "../guard.js";
import { PACKAGE } from "../package/package.js";
import type { GuardInfo } from "./protocol.js";

/** @param model as it was asked for; undefined for the embedded one */
export function describeGuard(guard: Guard, model: string | undefined): GuardInfo {
  const { manifest, labels, device, maxStreams, maxTokens } = guard;
  return {
    version: PACKAGE.version,
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
