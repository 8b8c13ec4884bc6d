import type { Engine } from "./engine/engine.js";
import type { ReadAhead } from "./engine/read-ahead.js";
import type { Sequence } from "./engine/sequence.js";
import type { GuardError } from "./errors.js";
import type { StreamInput } from "./guard-options.js";
import type { WindowSizes } from "./moderation/prompt-windows.js";
import { SlotWatch } from "./moderation/slot-watch.js";
import { GuardStream } from "./moderation/stream.js";
import type { StreamOptions } from "./moderation/stream-options.js";
import type { WindowMemory } from "./moderation/window-memory.js";
import type { Prompt } from "./prompt.js";
import type { Prefix } from "./tokenizer/chat-template/template.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";

interface Ways {
  /** In which what is longer than the context is judged; null: it is not. */
  windows: WindowSizes | null;
  /** Of streams that are read closely: see `StreamOptions`. */
  span: number;
  answerToo: boolean;
  /** What is known of windows that were judged; null: nothing is kept. */
  memory: WindowMemory | null;
  /** Reads what conversations will go on with; null: nobody does. */
  ahead: ReadAhead | null;
  /** After which one that has nothing to do is closed. Default: none is. */
  idleMs?: number;
}

/** The streams of a guard that are open. */
export class GuardStreams {
  readonly #engine: Engine;
  readonly #tokenizer: Tokenizer;
  readonly #ways: Ways;
  readonly #open: SlotWatch<GuardStream>;

  constructor(engine: Engine, tokenizer: Tokenizer, ways: Ways) {
    this.#engine = engine;
    this.#tokenizer = tokenizer;
    this.#ways = ways;
    this.#open = new SlotWatch(ways.idleMs !== undefined);
  }

  /** Tokens of prompts that were not read, as windows of theirs were known. */
  get recalledTokens(): number {
    return this.#ways.memory?.reusedTokens ?? 0;
  }

  /** @param goingOn how the conversation's next turn will begin; null: there is none */
  open(
    { cacheKey = "", closely = false, signal, overflow, restarts }: StreamInput,
    prefix: Prefix | Promise<Prefix>,
    options: Pick<StreamOptions, "policy" | "scope" | "mostSlides">,
    goingOn: Prompt["goingOn"],
  ): GuardStream {
    const { labels } = this.#engine.manifest.config;
    const { windows, span, answerToo, memory, ahead, idleMs } = this.#ways;
    const stream = new GuardStream(this.#engine.open(cacheKey), this.#tokenizer, labels, prefix, {
      ...{ ...options, signal, overflow, restarts },
      windows,
      span: closely ? span : null,
      answerToo,
      recall: memory?.under(cacheKey),
      spare: () => this.#spare(cacheKey),
      idleMs,
      onClear: goingOn ? (answer) => ahead?.add(cacheKey, () => goingOn(answer)) : undefined,
    });
    this.#open.add(stream);
    return stream;
  }

  /** The engine knows sequences alone: what else a stream holds on to, its signal for one, it lets go of itself. */
  close(reason: GuardError): void {
    for (const stream of this.#open) stream.close(reason);
  }

  /** A slot that nobody waits for. */
  #spare(cacheKey: string): Sequence | null {
    const { active, waiting } = this.#engine.load;
    return waiting === 0 && active < this.#engine.maxStreams ? this.#engine.open(cacheKey) : null;
  }
}
