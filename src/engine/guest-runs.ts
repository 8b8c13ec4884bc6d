import { NumericError } from "../errors.js";
import { BRANCHES_FILE, type Manifest, MODEL_FILE } from "../model/manifest.js";
import { logitDistance, tolerance } from "../model/self-test.js";
import type { BatchRunner } from "./batch.js";
import type { Branch, BranchRunner } from "./branch-runner.js";
import { type Logits, rowOf } from "./logits.js";
import type { Sequence } from "./sequence.js";

/** Guests that run together, and how many of their host's own tokens run ahead of them. */
export interface GuestRun {
  guests: Sequence[];
  own: number;
}

/** The first time that guests run together they are few: they run one after the other as well. */
const TRIED = 2;

/**
 * Runs guests of a shared row: together, where the model has a graph for branches, or one after the other. That graph is opened
 * when guests come for the first time, and what it says of some is held against what the other has said, before it is
 * believed; where it cannot be, guests run one after the other as before, and the process is warned.
 */
export class GuestRuns {
  readonly #runner: BatchRunner;
  readonly #manifest: Manifest;
  #open: (() => Promise<BranchRunner>) | null;
  #opening: Promise<void> | null = null;
  #branches: BranchRunner | null = null;
  #trusted = false;

  /** @param open opens what runs branches; null where the model has no graph for them */
  constructor(runner: BatchRunner, manifest: Manifest, open: (() => Promise<BranchRunner>) | null = null) {
    this.#runner = runner;
    this.#manifest = manifest;
    this.#open = open;
  }

  /**
   * Of the guests of a row the first, and those that run along with it: `most` tokens in all. Where that is all of them, their
   * host's own tokens may run along too.
   */
  group([first, ...others]: readonly Sequence[], host: Sequence, most: number): GuestRun {
    const { length } = host;
    const guests = [first];
    if (!this.#trusted && others.length > 0) this.#beginToOpen();
    if (!this.#branches) return { guests, own: 0 };
    const room = Math.min(most, this.#branches.room(length));
    let tokens = first.wantedBehind(length);
    for (const guest of others) {
      const all = tokens + guest.wantedBehind(length);
      if (all > room || (!this.#trusted && guests.length === TRIED)) continue;
      guests.push(guest);
      tokens = all;
    }
    const own = this.#trusted && guests.length > others.length && host.isAwaited ? host.awaited() : 0;
    return { guests, own: tokens + own <= room ? own : 0 };
  }

  /** Runs what is wanted of guests behind what the row of their host holds. @throws {DeviceError} ORT_ERROR */
  async run({ guests, own }: GuestRun, host: Sequence): Promise<void> {
    const { length: held } = host;
    const row = host.slot as number;
    const branches = guests.map((guest) => ({ row: guest.behind(held), count: guest.wantedBehind(held) }));
    // What the first branch brings stays in the cache.
    const all = own > 0 ? [{ row: host, count: own }, ...branches] : branches;
    if (all.length > 1 && this.#trusted && this.#branches) {
      const logits = await this.#branches.run(row, held, all);
      if (logits) {
        tell(guests, branches, logits, { held, from: own });
        if (own > 0) host.advance(own, logits, 0);
        return;
      }
    }
    const told: Logits[] = [];
    for (const [i, { row: tokens, count: length }] of branches.entries()) {
      if (guests[i].failure) continue;
      const batch = { firstRow: row, rows: [tokens], active: [true], length };
      const logits = await this.#runner.run(batch);
      for (let i = 0; i < length && guests.length > 1; i++)
        told.push(rowOf(logits, this.#manifest.outputs, i, i));
      guests[i].advanceAhead(held, length, logits);
    }
    if (guests.length > 1 && !guests.some(({ failure }) => failure instanceof NumericError))
      await this.#try(row, held, branches, told);
  }

  /** Ends it, once what is being opened is open. */
  async release(): Promise<void> {
    this.#open = null;
    await this.#opening;
    this.#branches?.release();
    this.#branches = null;
  }

  #beginToOpen(): void {
    if (!this.#open) return;
    this.#opening = this.#open().then(
      (branches) => {
        this.#branches = branches;
      },
      (error) => warn((error as Error).message),
    );
    this.#open = null;
  }

  /** @param told what the other graph has said of each token */
  async #try(row: number, held: number, branches: Branch[], told: readonly Logits[]): Promise<void> {
    const runner = this.#branches;
    const tokens = branches.reduce((sum, { count }) => sum + count, 0);
    // Some were closed meanwhile.
    if (!runner || told.length < tokens) return;
    try {
      const logits = await runner.run(row, held, branches);
      for (const { name, width } of this.#manifest.outputs) {
        const expected = Float32Array.from(told.flatMap((token) => [...token[name]]));
        const found = logits?.[name].subarray(0, expected.length);
        const distance = found ? logitDistance(found, expected, width) : Number.NaN;
        const limit = tolerance(this.#manifest);
        if (!(distance <= limit))
          throw new Error(
            `${BRANCHES_FILE}'s ${name} is ${distance.toPrecision(3)} away from ${MODEL_FILE}'s, and ${limit} is allowed`,
          );
      }
      this.#trusted = true;
    } catch (error) {
      warn((error as Error).message);
      this.#branches = null;
      runner.release();
    }
  }
}

function tell(
  guests: readonly Sequence[],
  branches: readonly Branch[],
  logits: Logits,
  { held, from }: { held: number; from: number },
): void {
  for (const [i, { count }] of branches.entries()) {
    guests[i].advanceAhead(held, count, logits, from);
    from += count;
  }
}

function warn(problem: string): void {
  process.emitWarning(
    `Streams that begin alike are judged one after the other, so their first verdicts take longer: ${problem}`,
    { code: "QWEN3GUARD_NOT_BRANCHED" },
  );
}
