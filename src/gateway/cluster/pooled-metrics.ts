import { AggregatorRegistry, collectDefaultMetrics, type PrometheusContentType, Registry } from "prom-client";
import type { Measured } from "./messages.js";

/** Milliseconds for a worker to tell its metrics; of one that is busy for longer the last that it told count. */
const PATIENCE = 2000;

/** Asks a worker for its metrics. */
export type Collect = () => Promise<Measured>;

/**
 * The metrics of all workers as one process's. What a worker has counted stays when it dies: a sum that fell would be
 * taken for a new start of all of it.
 */
export class PooledMetrics {
  readonly #own = new Registry();
  readonly #latest = new Map<number, Measured>();
  #departed: Measured = [];
  #leaving = Promise.resolve();

  constructor() {
    collectDefaultMetrics({ register: this.#own });
  }

  /** @param workers by a number that no other ever had */
  async text(workers: ReadonlyMap<number, Collect>): Promise<string> {
    await Promise.all(
      [...workers].map(async ([id, collect]) => {
        const measured = await Promise.race([collect(), timeout()]);
        if (measured && workers.has(id)) this.#latest.set(id, measured);
      }),
    );
    const own = await this.#own.getMetricsAsJSON();
    await this.#leaving;
    return sum([own, this.#departed, ...this.#latest.values()]).metrics();
  }

  /** A worker is gone: what it had counted is kept, what it held is not. */
  leave(id: number): void {
    this.#leaving = this.#leaving.then(async () => {
      const counted = (this.#latest.get(id) ?? []).filter(({ type }) => String(type) !== "gauge");
      const both = await sum([this.#departed, counted]).getMetricsAsJSON();
      this.#departed = both.map((metric) => ({ ...metric, aggregator: "sum" }));
      this.#latest.delete(id);
    });
  }
}

function sum(measured: Measured[]): Registry<PrometheusContentType> {
  return AggregatorRegistry.aggregate(measured);
}

function timeout(): Promise<null> {
  return new Promise((resolve) => setTimeout(() => resolve(null), PATIENCE).unref());
}
