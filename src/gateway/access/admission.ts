import { RequestError } from "../api-error.js";

/** What a request holds while it is moderated. */
export interface Admission {
  /** Fires when the client leaves, time is up, or the proxy shuts down. */
  signal: AbortSignal;
  /** Idempotent. */
  free(): void;
}

/** The places that requests are moderated in. */
export class AdmissionControl {
  readonly #most: number;
  readonly #seconds: number;
  readonly #underway = new Set<AbortController>();
  #taken = 0;

  /**
   * @param most choices moderated at once
   * @param seconds that a request may take
   */
  constructor(most: number, seconds: number) {
    this.#most = most;
    this.#seconds = seconds;
  }

  /** Choices being moderated. */
  get taken(): number {
    return this.#taken;
  }

  /** Takes places for so many choices, until the request is over or its time is. @throws {RequestError} too_many_choices, too_many_streams */
  admit(count: number, signal: AbortSignal): Admission {
    if (count > this.#most) {
      const message = `${count} choices are asked for, and ${this.#most} are judged at once at most (--max-streams): ask for fewer.`;
      throw new RequestError(400, "too_many_choices", message);
    }
    if (this.#taken + count > this.#most) {
      throw new RequestError(429, "too_many_streams", "All places are taken. Try again in a moment.");
    }
    this.#taken += count;
    const controller = new AbortController();
    this.#underway.add(controller);
    const message = `The request took longer than ${this.#seconds} seconds.`;
    const late = () => controller.abort(new RequestError(504, "timeout", message));
    const timer = setTimeout(late, this.#seconds * 1000);
    return {
      signal: AbortSignal.any([signal, controller.signal]),
      free: () => {
        if (!this.#underway.delete(controller)) return;
        clearTimeout(timer);
        this.#taken -= count;
      },
    };
  }

  /** Ends all requests that are under way. */
  abort(reason: RequestError): void {
    for (const controller of this.#underway) controller.abort(reason);
  }
}
