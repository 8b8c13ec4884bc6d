import { Option } from "commander";
import type { BatchOptions } from "../gate/batches.js";
import type { Release } from "../gate/gate-options.js";
import { whole } from "./numbers.js";

export interface PaceOptions {
  release: Release;
  batchTokens?: number;
  batchMs?: number;
}

export function releaseOption(): Option {
  return new Option(
    "--release <when>",
    "text that is held back leaves when no flag can reach it any more, or when it is judged clear as it stands",
  )
    .choices(["settled", "judged"])
    .default("settled");
}

export function batchTokensOption(): Option {
  return new Option(
    "--batch-tokens <n>",
    "judge once so many tokens wait (with --batch-ms alone: 16)",
  ).argParser(whole(1, 1024));
}

export function batchMsOption(): Option {
  return new Option(
    "--batch-ms <ms>",
    "… or the first of them has waited so long (with --batch-tokens alone: 500)",
  ).argParser(whole(1, 3_600_000));
}

/** Undefined where every token is judged at once. */
export function batchOf({ batchTokens, batchMs }: PaceOptions): BatchOptions | undefined {
  if (batchTokens === undefined && batchMs === undefined) return undefined;
  return { tokens: batchTokens, ms: batchMs };
}
