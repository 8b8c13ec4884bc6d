import type { Received } from "../answer/lane.js";

/** What the guard reads of an answer. Places are in UTF-16 units of all that it reads. */
export class ReadText {
  #text = "";
  /** Stretches in a row, and where they end. */
  readonly #stretches: { end: number; as: Received }[] = [];
  /** How much more was judged than stands here: of what was dropped. */
  readonly #dropped: number;

  /**
   * @param released what an answer that was dropped goes on from. Default: nothing was
   * @param judged how much was judged until then, what was dropped among it
   */
  constructor(released = "", judged = 0) {
    this.#dropped = judged - released.length;
    if (released !== "") this.add(released, "answer");
  }

  add(text: string, as: Received): void {
    this.#text += text;
    const last = this.#stretches.at(-1);
    if (last?.as === as) last.end = this.#text.length;
    else this.#stretches.push({ end: this.#text.length, as });
  }

  /** As what it reads the text that ends at a place. */
  at(place: number): Received | undefined {
    return this.#stretches.find(({ end }) => place - this.#dropped <= end)?.as;
  }

  /** All up to a place that the model wrote, each text once. */
  until(place: number): string {
    const to = Math.max(0, place - this.#dropped);
    let text = "";
    let start = 0;
    for (const { end, as } of this.#stretches) {
      if (as !== "framing") text += this.#text.slice(start, Math.min(end, to));
      start = Math.min(end, to);
    }
    return text;
  }
}
