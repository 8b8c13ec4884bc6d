import type { Worker } from "node:cluster";
import { once } from "node:events";
import type { Measured, ToWorker } from "./messages.js";

/** A worker of a pool, as the pool sees it. */
export class Member {
  readonly worker: Worker;
  /** Whether it answers requests. */
  ready = false;
  connections = 0;
  /** Which of all connections was its last. */
  last = 0;
  readonly #collecting = new Map<number, (measured: Measured) => void>();
  #ids = 0;
  #unheard = 0;

  constructor(worker: Worker) {
    this.worker = worker;
  }

  tell(message: ToWorker): void {
    if (this.worker.isConnected()) this.worker.send(message, () => {});
  }

  /** Asks whether it hears. @returns how often it was asked since it last said anything */
  feel(): number {
    this.tell({ kind: "pulse" });
    return this.#unheard++;
  }

  /** It has said something. */
  heard(): void {
    this.#unheard = 0;
  }

  /** Asks for its metrics; of one that ends meanwhile there are none. */
  collect(): Promise<Measured> {
    const id = ++this.#ids;
    this.tell({ kind: "collect", id });
    return new Promise((resolve) => this.#collecting.set(id, resolve));
  }

  collected(id: number, measured: Measured): void {
    this.#collecting.get(id)?.(measured);
    this.#collecting.delete(id);
  }

  /** Nothing more comes from it. */
  leave(): void {
    for (const give of this.#collecting.values()) give([]);
  }

  /** Has it end, and kills it where it does not hear. @param patience milliseconds that it may take */
  async end(now: boolean, patience: number): Promise<void> {
    const { worker } = this;
    // Nobody waits for one that has not begun, whatever it is at.
    if (now && !this.ready) worker.process.kill("SIGKILL");
    else this.tell({ kind: "close", now });
    if (worker.isDead()) return;
    const timer = setTimeout(() => worker.process.kill("SIGKILL"), patience);
    await once(worker, "exit");
    clearTimeout(timer);
  }
}
