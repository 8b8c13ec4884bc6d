import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { Guard } from "../guard.js";
import type { GuardInfo } from "./protocol.js";

/** @param model as it was asked for; undefined for the embedded one */
export async function describeGuard(guard: Guard, model: string | undefined): Promise<GuardInfo> {
  const { version } = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8"));
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
