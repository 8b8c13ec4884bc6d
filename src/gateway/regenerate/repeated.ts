/** Leaves out of a continuation the turn that it goes on from, where its server says that again first. */
export class Repeated {
  readonly #turn: string;
  #held: string | null = "";

  /** @param turn as it was sent, whole */
  constructor(turn: string) {
    this.#turn = turn;
    if (turn === "") this.#held = null;
  }

  /** What of a text passes by now; what may yet be the turn is held. */
  push(text: string): string {
    if (this.#held === null) return text;
    const said = this.#held + text;
    const held = this.#turn.startsWith(said) && said !== this.#turn;
    this.#held = held ? said : null;
    if (held) return "";
    return said.startsWith(this.#turn) ? said.slice(this.#turn.length) : said;
  }

  /** What is held at the answer's end: a short answer that begins as the turn does. */
  end(): string {
    const held = this.#held ?? "";
    this.#held = null;
    return held;
  }
}
