import type { Registry } from "prom-client";

/** Metrics of one process, as they travel. */
export type Measured = Awaited<ReturnType<Registry["getMetricsAsJSON"]>>;

/** What a worker tells the process that started it. */
export type FromWorker =
  /** It answers requests at this path. */
  | { kind: "ready"; path: string }
  /** Somebody asks it for the metrics of all. */
  | { kind: "scrape"; id: number }
  /** Its own metrics, as asked for. */
  | { kind: "metrics"; id: number; metrics: Measured };

/** What a worker is told. */
export type ToWorker =
  | { kind: "collect"; id: number }
  | { kind: "scraped"; id: number; text: string }
  /** Take no more requests, let those under way end for so long, then end them and yourself. */
  | { kind: "close"; graceMs: number };
