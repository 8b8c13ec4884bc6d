import "./package/package.js";

export type { PullOptions } from "./download/hub.js";
export { pull } from "./download/on-demand.js";
export {
  CheckpointError,
  ClosedError,
  ContextLengthError,
  DeviceError,
  GuardError,
  InputError,
  ModelError,
  NumericError,
  QueueFullError,
  StorageError,
} from "./errors.js";
export type { ExportOptions } from "./export/export.js";
export { exportCheckpoint } from "./export/on-demand.js";
export {
  type Attempt,
  type ContinuedTurn,
  type ContinuingServer,
  continueTurn,
  type Intervention,
  type RegenerateOptions,
} from "./gate/attempt.js";
export type { BatchOptions } from "./gate/batches.js";
export type { Chunk, ModelEvent } from "./gate/chunks.js";
export type { Delivery, ResponseOptions } from "./gate/delivery.js";
export type { GateStats, Mode, Outcome, Release } from "./gate/gate-options.js";
export type { ModeratedStream } from "./gate/moderate.js";
export type { Source } from "./gate/source.js";
export { ModerationViolation, type Span } from "./gate/violation.js";
export { type GenerateInput, type GenGuard, loadGenGuard, type TokenLogprob } from "./gen-guard.js";
export type { Prompt } from "./guard/prompt.js";
export {
  type Guard,
  type LoadOptions,
  loadGuard,
  type ModerateOptions,
  type PromptInput,
  type StreamInput,
} from "./guard.js";
export type { GuardConfig } from "./model/config.js";
export { type Device, DTYPES, type Dtype, type Manifest } from "./model/manifest.js";
export type { Classification, ClassificationRuling, ClassifyInput } from "./moderation/classification.js";
export type { Overflow } from "./moderation/context-window.js";
export { type Decision, decide, type Judged, type Reading } from "./moderation/decision.js";
export { type Severity, severityOf } from "./moderation/labels.js";
export {
  type Action,
  DEFAULT_POLICY,
  type Policy,
  type PolicyData,
  type PromptScope,
  parsePolicy,
  type RulesData,
  resolvePolicy,
} from "./moderation/policy.js";
export { type Finding, type Ruling, rulePrompt, ruleResponse } from "./moderation/ruling.js";
export type { GuardStream } from "./moderation/stream.js";
export type { Judgement, TurnVerdict, Verdict } from "./moderation/verdict.js";
export type { DeviceName } from "./runtime/devices/device-id.js";
export type { ContentPart, Message } from "./tokenizer/chat-template/messages.js";
