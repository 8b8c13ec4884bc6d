import { InputError } from "../errors.js";
import { IncrementalEncoder, type Revision } from "../tokenizer/incremental.js";
import { MOST_UNSETTLED } from "../tokenizer/limits.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

/** A response's text as it comes, and what it does to the response's tokens. */
export class ResponseText {
  readonly #tokenizer: Tokenizer;
  #encoder: IncrementalEncoder | null = null;
  /** Response index of the encoder's first token. */
  #base = 0;
  /** What it has done to the tokens since that was last taken. */
  #staged: Revision | null = null;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** Tokens that are new or others since they were last taken. */
  get staged(): number {
    return this.#staged?.ids.length ?? 0;
  }

  /** @throws {InputError} MARKS_TOO_MANY, TEXT_UNSETTLED; it is of no use after that */
  push(chunk: string): void {
    this.#stage(this.#open().push(chunk));
  }

  /** As `push`, in steps of a slice. */
  *pushInSlices(chunk: string): Generator<void> {
    this.#stage(yield* this.#open().pushInSlices(chunk));
  }

  /** Completes the text: what is pushed later is encoded on its own. Without text nothing happens. */
  end(): void {
    if (!this.#encoder) return;
    const { from, ids } = this.#stage(this.#encoder.end());
    this.#base = from + ids.length;
    this.#encoder = null;
  }

  /** What the text has done to the response's tokens since this was last asked; null where there was none. */
  take(): Revision | null {
    const revision = this.#staged;
    this.#staged = null;
    return revision;
  }

  /** The response begins again. */
  restart(): void {
    this.#encoder = new IncrementalEncoder(this.#tokenizer);
    this.#base = 0;
    this.#staged = null;
  }

  #open(): IncrementalEncoder {
    this.#encoder ??= new IncrementalEncoder(this.#tokenizer);
    return this.#encoder;
  }

  #stage({ from, ids, provisional }: Revision): Revision {
    if (provisional > MOST_UNSETTLED) throw unsettled();
    const revision = { from: this.#base + from, ids, provisional };
    this.#staged = this.#staged ? joined(this.#staged, revision) : revision;
    return this.#staged;
  }
}

/** Two revisions one after the other, as one. */
function joined(first: Revision, { from, ids, provisional }: Revision): Revision {
  if (from <= first.from) return { from, ids, provisional };
  return { from: first.from, ids: [...first.ids.slice(0, from - first.from), ...ids], provisional };
}

function unsettled(): InputError {
  return new InputError(
    "TEXT_UNSETTLED",
    `The last ${MOST_UNSETTLED} tokens of the text could all still change with what comes next, which only white space ` +
      "without end does. Nothing after what was judged may be shown.",
  );
}
