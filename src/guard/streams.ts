import type { Engine } from "../engine/engine.js";
import { ReadAhead } from "../engine/read-ahead.js";
import type { Sequence } from "../engine/sequence.js";
import type { GuardError } from "../errors.js";
import type { Policy } from "../moderation/policy.js";
import type { WindowSizes } from "../moderation/prompt-windows.js";
import { rulePrompt } from "../moderation/ruling.js";
import { SlotWatch } from "../moderation/slot-watch.js";
import { GuardStream } from "../moderation/stream.js";
import type { StreamOptions } from "../moderation/stream-options.js";
import type { WindowMemory } from "../moderation/window-memory.js";
import { type Conversations, scopeOf } from "./conversations.js";
import type { StreamInput } from "./options.js";
import type { Prompt } from "./prompt.js";

interface Ways {
  /** In which what is longer than the context is judged; null: it is not. */
  windows: WindowSizes | null;
  /** Of streams that are read closely: see `StreamOptions`. */
  span: number;
  answerToo: boolean;
  /** What is known of windows that were judged; null: nothing is kept. */
  memory: WindowMemory | null;
  /** Whether what conversations will go on with is read beforehand. */
  readAhead: boolean;
  /** After which one that has nothing to do is closed. Default: none is. */
  idleMs?: number;
}

interface Opening extends Pick<StreamOptions, "mostSlides"> {
  /** Whether the policy rules on its verdicts. Default true. */
  rules?: boolean;
  /** Whether the conversation may have a next turn. Default true. */
  goesOn?: boolean;
}

/** The streams of a guard that are open. */
export class GuardStreams {
  readonly #engine: Engine;
  readonly #conversations: Conversations;
  readonly #ways: Ways;
  readonly #ahead: ReadAhead | null;
  readonly #open: SlotWatch<GuardStream>;

  constructor(engine: Engine, conversations: Conversations, ways: Ways) {
    this.#engine = engine;
    this.#conversations = conversations;
    this.#ways = ways;
    this.#ahead = ways.readAhead ? new ReadAhead(engine) : null;
    this.#open = new SlotWatch(ways.idleMs !== undefined);
  }

  /** Tokens of prompts that were not read, as windows of theirs were known. */
  get recalledTokens(): number {
    return this.#ways.memory?.reusedTokens ?? 0;
  }

  /** @throws as `Guard.stream` */
  open(input: StreamInput, policy: Policy | undefined, opening: Opening = {}): GuardStream {
    const { cacheKey = "", closely = false, signal, overflow, restarts } = input;
    const { rules = true, goesOn = true, mostSlides } = opening;
    const prefix = this.#conversations.prefixOf(input, policy);
    // Known before anything has run. Messages always have a turn.
    if (rules && policy && !(prefix instanceof Promise) && prefix.turns.length === 0) {
      rulePrompt(null, policy);
    }
    const goingOn = goesOn ? this.goingOn(input, policy) : null;
    const { labels } = this.#engine.manifest.config;
    const { windows, span, answerToo, memory, idleMs } = this.#ways;
    const stream = new GuardStream(
      this.#engine.open(cacheKey),
      this.#conversations.tokenizer,
      labels,
      prefix,
      {
        ...{ signal, overflow, restarts, mostSlides, windows, answerToo, idleMs },
        policy: rules ? policy : undefined,
        scope: scopeOf(input, policy),
        span: closely ? span : null,
        recall: memory?.under(cacheKey),
        spare: () => this.#spare(cacheKey),
        onClear: goingOn ? (answer) => this.#ahead?.add(cacheKey, () => goingOn(answer)) : undefined,
      },
    );
    this.#open.add(stream);
    return stream;
  }

  /** Where it reads ahead: how the conversation's next turn will begin. */
  goingOn(input: Partial<StreamInput>, policy: Policy | undefined): Prompt["goingOn"] {
    return this.#ahead ? this.#conversations.goingOn(input, policy) : null;
  }

  /** The engine knows sequences alone: what else a stream holds on to, its signal for one, it lets go of itself. */
  close(reason: GuardError): void {
    for (const stream of this.#open) stream.close(reason);
    this.#ahead?.close();
  }

  /** A slot that nobody waits for. */
  #spare(cacheKey: string): Sequence | null {
    const { active, waiting } = this.#engine.load;
    return waiting === 0 && active < this.#engine.maxStreams ? this.#engine.open(cacheKey) : null;
  }
}
