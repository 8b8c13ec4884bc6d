import type { PartGate, VerdictStream } from "../../gate/gate-options.js";
import type { Finding } from "../../moderation/ruling.js";
import type { TurnVerdict } from "../../moderation/verdict.js";
import type { LaneWatch, Received } from "../answer/lane.js";
import type { Dropped } from "../regenerate/dropped.js";
import type { Begun, Watcher } from "./watcher.js";

/** Tells those who watch a request of one of its choices. */
export class WatchedChoice implements LaneWatch {
  readonly #watchers: readonly Watcher[];
  readonly #choice: number;
  #turns: readonly TurnVerdict[] = [];

  constructor(watchers: readonly Watcher[], choice: number, begun: Begun) {
    this.#watchers = watchers;
    this.#choice = choice;
    for (const watcher of watchers) watcher.begins(choice, begun);
  }

  /** Keeps the verdicts of the prompt's turns. */
  stream(stream: VerdictStream): VerdictStream {
    stream.turns.then(
      (turns) => {
        this.#turns = turns;
      },
      () => {},
    );
    return stream;
  }

  /** Tells what becomes of the prompt. */
  follow(gate: Pick<PartGate<unknown>, "prompt" | "stats">): void {
    void gate.prompt.then((ruling) => {
      if (!ruling) return;
      const unguarded = gate.stats.promptMs === null;
      for (const watcher of this.#watchers)
        watcher.prompt(this.#choice, { ruling, turns: this.#turns, unguarded });
    });
  }

  observed(finding: Finding): void {
    for (const watcher of this.#watchers) watcher.observed(this.#choice, finding);
  }

  received(text: string, as: Received): void {
    for (const watcher of this.#watchers) watcher.received(this.#choice, text, as);
  }

  released(text: string): void {
    for (const watcher of this.#watchers) watcher.released(this.#choice, text);
  }

  dropped(dropped: Dropped): void {
    for (const watcher of this.#watchers) watcher.dropped(this.#choice, dropped);
  }
}
