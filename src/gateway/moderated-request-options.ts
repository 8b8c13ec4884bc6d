import type { BatchOptions } from "../gate/batches.js";
import type { Mode, Release } from "../gate/gate-options.js";
import type { ModerationViolation } from "../gate/violation.js";
import type { ScoutChoice } from "../guard/scouting.js";
import type { Policy } from "../moderation/policy.js";
import type { Finding } from "../moderation/ruling.js";
import type { Json } from "../validation/json.js";
import type { CodecOptions } from "./answer/codec.js";
import type { Annotations } from "./openai/annotations.js";
import type { Watcher } from "./record/watcher.js";
import type { RegenerationOptions } from "./regenerate/regeneration.js";

export interface ModeratedRequestOptions {
  policy: Policy;
  /** Of streams. */
  pace: Pace;
  /** Stops everything when it fires. */
  signal: AbortSignal;
  onObserve: (finding: Finding) => void;
  /** Are told what becomes of the choices. Default: none. */
  watchers?: readonly Watcher[];
  /** The request's body, as it was judged. */
  request: Json;
  /** Names of fields that pass unread, where no table knows them. Default: none. */
  passFields?: readonly string[];
  /** Whose the request is. */
  cacheKey: string;
  /** What answers in the model's place where the policy stops it. Default: nothing. */
  replacement?: (violation: ModerationViolation) => string | null;
  /** Tells of prompt and answer beside them. Default: nothing is told. */
  annotations?: Annotations["style"] | null;
  /** How a stream says that it was stopped. Default: as its protocol does. */
  errors?: CodecOptions["errors"];
  /** How the answer is gone on with where it is flagged. Default: it ends there. */
  regenerate?: Omit<RegenerationOptions, "request" | "failed"> | null;
  /** Seconds without a word after which a stream's client is told that there is one to come. Default 0: it never is. */
  keepAlive?: number;
}

/** How text of a stream leaves, and when it is judged; what comes at once is held back. */
export interface Pace {
  mode?: Mode | "regenerate";
  release?: Release;
  batch?: BatchOptions;
  scout?: ScoutChoice;
}
