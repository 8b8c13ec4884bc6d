import type { Reviewer } from "../moderation/reviewer.js";
import type { GateOptions } from "./gate-options.js";
import type { Passage } from "./passage.js";

/** What leaves a gate when, by its mode. */
export class ReleaseRule<T> {
  readonly #passage: Passage<T>;
  readonly #reviewer: Reviewer;
  readonly #options: Pick<GateOptions, "mode" | "release">;
  readonly #buffer: number;
  /** The scout suspects something on which the guard has not ruled yet. */
  #suspicion = false;

  /** @param buffer how many of the newest tokens stay, whatever their verdicts */
  constructor(
    passage: Passage<T>,
    reviewer: Reviewer,
    options: Pick<GateOptions, "mode" | "release">,
    buffer: number,
  ) {
    this.#passage = passage;
    this.#reviewer = reviewer;
    this.#options = options;
    this.#buffer = buffer;
  }

  /** Whether what comes leaves before the guard has judged it. */
  get isAtOnce(): boolean {
    const { mode } = this.#options;
    return mode === "stream-first" || (mode === "scout-first" && !this.#suspicion);
  }

  /** Whether what came is to be judged at once, and to be held until then. */
  get isSuspicious(): boolean {
    return this.#suspicion;
  }

  suspect(): void {
    this.#suspicion = true;
  }

  /** Lets go what is clear. */
  releaseClear(): void {
    const { clear, likelyClear } = this.#reviewer;
    const { mode, release } = this.#options;
    const ahead = release === "judged" || mode === "scout-first" ? likelyClear : [];
    this.#passage.release(this.#buffer > 0 ? this.#passage.allBut(this.#buffer, clear) : clear, ahead);
    if (this.#isAllClear) this.#suspicion = false;
  }

  /** Drops what nobody has read yet, where that was not judged. */
  dropUnjudged(): void {
    if ((this.#options.mode ?? "hold-back") !== "hold-back") this.#passage.dropUnread();
  }

  /** Whether the guard has ruled on all that came, and takes none of it for harmful. */
  get #isAllClear(): boolean {
    // What leaves at once must not overtake what is still held.
    if (this.#options.mode === "scout-first") return this.#passage.isEmpty;
    return !this.#passage.hasIncoming && this.#reviewer.isLikelyClear;
  }
}
