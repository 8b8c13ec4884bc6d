import type { Received } from "../lane.js";

/** What the guard reads of an answer. Places are in UTF-16 units of all that it reads. */
export class ReadText {
  #text = "";
  /** Stretches in a row, and where they end. */
  readonly #stretches: { end: number; as: Received }[] = [];

  add(text: string, as: Received): void {
    this.#text += text;
    const last = this.#stretches.at(-1);
    if (last?.as === as) last.end = this.#text.length;
    else this.#stretches.push({ end: this.#text.length, as });
  }

  /** As what it reads the text that ends at a place. */
  at(place: number): Received | undefined {
    return this.#stretches.find(({ end }) => place <= end)?.as;
  }

  /** All up to a place that the model wrote, each text once. */
  until(place: number): string {
    let text = "";
    let start = 0;
    for (const { end, as } of this.#stretches) {
      if (as !== "framing") text += this.#text.slice(start, Math.min(end, place));
      start = Math.min(end, place);
    }
    return text;
  }
}
