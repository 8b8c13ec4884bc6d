import type { LogitsReader } from "../engine/logits.js";
import { type Logits, rowOf } from "../engine/logits.js";
import type { Sequence } from "../engine/sequence.js";
import { ClosedError, type GuardError } from "../errors.js";
import type { PromptWindow, WindowRead } from "./prompt-windows.js";
import type { WindowRecall } from "./window-memory.js";

/** What a window of a prompt gives where a verdict is read. `row` and `index` are as for a `LogitsReader`. */
export type PromptReader = (logits: Parameters<LogitsReader>[0], index: number, read: WindowRead) => void;

/**
 * Windows of a prompt that are not its last: they are read one after the other, but for those whose verdicts are remembered.
 * Where a slot is free, in that: then it stays warm, and what the conversation's next turn has in common with it need not be
 * read again.
 */
export class EarlierWindows {
  readonly #own: Sequence;
  readonly #spare: () => Sequence | null;
  readonly #recall: WindowRecall | null;
  /** Reads a window in place of the stream's own. */
  #reading: Sequence | null = null;
  #reused = 0;

  /**
   * @param own the stream's, which reads them where no other can
   * @param spare opens another where a slot is free and nobody waits for it
   * @param recall what is known of them; null: nothing
   */
  constructor(own: Sequence, spare: () => Sequence | null, recall: WindowRecall | null) {
    this.#own = own;
    this.#spare = spare;
    this.#recall = recall;
  }

  /** Tokens of those that others read, or that are remembered, that the cache held already. */
  get reused(): number {
    return this.#reused;
  }

  /** @throws as `Sequence.feed` */
  async read(windows: readonly PromptWindow[], read: PromptReader): Promise<void> {
    for (const window of windows) {
      if (this.#recall?.tell(window, read)) {
        this.#reused += window.ids.length;
        continue;
      }
      const sequence = this.#own.failure ? null : this.#spare();
      this.#reading = sequence;
      const given: Logits[] = [];
      await feedWindow(sequence ?? this.#own, window, (logits, index, own) => {
        if (this.#recall) given.push(rowOf(logits, this.#own.limits.outputs, index, -1));
        read(logits, index, own);
      });
      this.#recall?.keep(window, given);
      this.#reading = null;
      this.#reused += sequence?.reused ?? 0;
      sequence?.close(new ClosedError("STREAM_CLOSED", "The window was read."));
    }
  }

  /** Ends what it holds; the stream's own sequence is not its. */
  close(reason: GuardError): void {
    this.#reading?.close(reason);
  }
}

export function feedWindow(
  sequence: Sequence,
  { ids, reads }: PromptWindow,
  read: PromptReader,
): Promise<void> {
  let next = 0;
  const reader: LogitsReader = (logits, index) => read(logits, index, reads[next++]);
  return sequence.feed(
    ids,
    reader,
    0,
    reads.map(({ at }) => at),
  );
}
