import { GuardError } from "../errors.js";
import type { Decision } from "../moderation/decision.js";
import type { Review, Reviewer } from "../moderation/reviewer.js";
import type { TurnVerdict, Verdict } from "../moderation/verdict.js";
import { Batches, type BatchOptions } from "./batches.js";
import type { VerdictStream } from "./gate-options.js";
import { HIGH_WATER, type Intake } from "./intake.js";
import type { Lifetime } from "./lifetime.js";
import type { Passage } from "./passage.js";
import type { ReleaseRule } from "./release-rule.js";

interface Parts<T> {
  life: Lifetime;
  passage: Passage<T>;
  intake: Intake<T>;
  reviewer: Reviewer;
  release: ReleaseRule<T>;
}

/** The guard's part of a gate: gives its stream what came, has its verdicts reviewed, and lets go what is clear. */
export class Judging<T> {
  readonly #stream: VerdictStream;
  readonly #gate: Parts<T>;
  readonly #batches: Batches;
  readonly #onReview: (review: Review) => void;
  /** Why the guard has closed the stream, whatever it was doing. */
  #closed: GuardError | null = null;
  #tokens = 0;

  /**
   * @param batch when what came is judged. Default: at once
   * @param onReview told of what the policy makes of tokens; what it throws ends the judging
   */
  constructor(
    stream: VerdictStream,
    gate: Parts<T>,
    batch: BatchOptions | undefined,
    onReview: (review: Review) => void,
  ) {
    this.#stream = stream;
    this.#gate = gate;
    this.#onReview = onReview;
    this.#batches = new Batches(stream, batch, () => gate.life.notify());
    void stream.closed.then((reason) => {
      this.#closed = reason;
      gate.life.notify();
    });
  }

  /** Tokens with a verdict that stands. */
  get tokens(): number {
    return this.#tokens;
  }

  get stream(): Pick<VerdictStream, "slides" | "promptTokens" | "reusedTokens"> {
    return this.#stream;
  }

  turns(): Promise<readonly TurnVerdict[]> {
    return this.#gate.life.during(this.#stream.turns);
  }

  /** Judges what comes up to the source's end, and lets all of it go. */
  async all(): Promise<Decision | null> {
    const { life, passage, release } = this.#gate;
    while (await this.#arrival()) {
      const { text, ids, boundary } = passage.take();
      const now = boundary || release.isSuspicious || passage.lag >= HIGH_WATER;
      await this.#review(this.#batches.push(text, ids, now));
      if (boundary) await this.#settle();
      release.releaseClear();
      if (this.#batches.waiting === 0) passage.settleLag();
      life.notify();
    }
    await this.#settle();
    if (!passage.isComplete) {
      throw new GuardError(
        "INTERNAL",
        "Text is left that no token stands for. Please report the text as a bug.",
      );
    }
    passage.releaseAll();
    return this.#tokens > 0 ? life.during(this.#stream.end()) : null;
  }

  /** Nothing more is judged. @param goesOn somebody else takes over the stream */
  close(goesOn = false): void {
    if (!goesOn) this.#stream.close();
    this.#batches.close();
  }

  /** Waits for something to judge. False when all has come. */
  async #arrival(): Promise<boolean> {
    const { life, passage, intake } = this.#gate;
    const something = () => passage.hasIncoming || this.#batches.isDue;
    await life.until(() => something() || intake.end !== null || this.#closed !== null);
    if (this.#closed) throw this.#closed;
    return something();
  }

  /** Settles what was judged so far, as if the text ended here. */
  async #settle(): Promise<void> {
    if (this.#gate.passage.hasText || this.#batches.waiting > 0) await this.#review(this.#batches.settle());
  }

  /** Has the reviewer rule on new verdicts. */
  async #review(judging: Promise<Verdict[]>): Promise<void> {
    const { life, passage, reviewer } = this.#gate;
    const verdicts = await life.during(judging);
    this.#onReview(
      reviewer.review(verdicts, this.#stream.settled, (verdict) => {
        this.#tokens++;
        return passage.judge(verdict);
      }),
    );
  }
}
