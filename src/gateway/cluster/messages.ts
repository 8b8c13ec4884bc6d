import type { Registry } from "prom-client";

/** Metrics of one process, as they travel. */
export type Measured = Awaited<ReturnType<Registry["getMetricsAsJSON"]>>;

/** What a worker asks the process that started it. */
export type Question =
  /** The metrics of all workers, as text. */
  | { about: "metrics" }
  /** Whether this client may ask once more, by what it has asked of all workers. */
  | { about: "rate"; client: string };

/** What a worker tells the process that started it. */
export type FromWorker =
  /** It hears what it is told. */
  | { kind: "started" }
  /** It answers requests. */
  | { kind: "ready" }
  | { kind: "ask"; id: number; question: Question }
  /** It heard what it was told. */
  | { kind: "pulse" }
  /** Its own metrics, as asked for. */
  | { kind: "metrics"; id: number; metrics: Measured };

/** What a worker is told. */
export type ToWorker =
  | { kind: "collect"; id: number }
  | { kind: "answer"; id: number; answer: string | boolean }
  /** Say that you hear this. */
  | { kind: "pulse" }
  /** Take no more requests, let those under way end for the time of grace, or end them now; then end yourself. */
  | { kind: "close"; now: boolean };
