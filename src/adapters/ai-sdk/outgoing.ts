import type { GuardError } from "../../errors.js";
import type { AnswerFormatter } from "../../gate/answer-formatter.js";
import type { Gate } from "../../gate/gate.js";
import type { Part } from "../../gate/parts.js";
import { ModerationViolation } from "../../gate/violation.js";
import {
  type Block,
  FILTERED,
  figures,
  type Metadata,
  NO_USAGE,
  type StreamPart,
  type Usage,
} from "./types.js";

type Opened = "text" | "reasoning" | "tool-input";

/** What goes out of a gate as parts of the SDK's stream, with blocks that end whatever happens. */
export class Outgoing {
  #usage: Usage = NO_USAGE;
  #failure: GuardError | null = null;
  readonly #formatter: AnswerFormatter<StreamPart | Block>;
  /** Begun and not ended, as the reader knows them. */
  readonly #open = new Map<string, { type: Opened; id: string }>();

  constructor(formatter: AnswerFormatter<StreamPart | Block>) {
    this.#formatter = formatter;
  }

  /** Told of as soon as the provider does: the finish may be held behind what is stopped. */
  readonly onUsage = (usage: Usage): void => {
    this.#usage = usage;
  };

  /** The guard has failed, and what comes passes unjudged. */
  onFailure(error: GuardError): void {
    this.#failure = error;
  }

  part(part: Part<StreamPart | Block>): StreamPart {
    if (part.kind === "text") {
      const { channel, id } = part.tag as Block;
      return {
        type: channel === "content" ? "text-delta" : "reasoning-delta",
        id,
        delta: this.#formatter.source(part),
      };
    }
    const item = (part.kind === "item" ? part.item : part) as StreamPart;
    const [, type, what] = /^(text|reasoning|tool-input)-(start|end)$/.exec(item.type) ?? [];
    if (what && "id" in item) {
      const key = `${type} ${item.id}`;
      if (what === "start") this.#open.set(key, { type: type as Opened, id: item.id as string });
      else this.#open.delete(key);
    }
    return item.type === "finish" && this.#failure ? withFailure(item, this.#failure) : item;
  }

  /** What ends the stream in place of what was stopped, or failed. */
  *end(error: unknown): Generator<StreamPart> {
    for (const { type, id } of this.#open.values()) yield { type: `${type}-end`, id };
    const usage = figures(this.#usage);
    if (error instanceof ModerationViolation) {
      yield { type: "finish", finishReason: FILTERED, usage, providerMetadata: metadata(error) };
    } else {
      yield { type: "error", error };
      yield { type: "finish", finishReason: { unified: "error", raw: undefined }, usage };
    }
  }

  stream(
    gate: Gate<StreamPart | Block>,
    signal: AbortSignal | undefined,
    onViolation?: (violation: ModerationViolation) => void,
  ): ReadableStream<StreamPart> {
    return new ReadableStream<StreamPart>(
      {
        pull: async (controller) => {
          try {
            const { done, value } = await gate.next();
            if (done) controller.close();
            else controller.enqueue(this.part(value));
          } catch (error) {
            if (signal?.aborted) {
              controller.error(signal.reason);
              return;
            }
            if (error instanceof ModerationViolation) onViolation?.(error);
            for (const part of this.end(error)) controller.enqueue(part);
            controller.close();
          }
        },
        async cancel() {
          await gate.return();
        },
      },
      { highWaterMark: 0 },
    );
  }
}

/** Tells beside the provider's metadata that the guard failed and let the rest pass; by its code, as messages may quote. */
export function withFailure<T extends { providerMetadata?: Metadata }>(told: T, { code }: GuardError): T {
  return { ...told, providerMetadata: { ...told.providerMetadata, qwen3guard: { failure: { code } } } };
}

export function metadata(violation: ModerationViolation): Metadata {
  return { qwen3guard: { violation: JSON.parse(JSON.stringify(violation)) } };
}
