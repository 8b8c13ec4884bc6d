import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { expect, test } from "vitest";
import { PooledMetrics } from "../../../src/gateway/cluster/pooled-metrics.js";

function worker() {
  const registry = new Registry();
  const registers = [registry];
  return {
    asked: new Counter({ name: "asked_total", help: "h", labelNames: ["kind"], registers }),
    held: new Gauge({ name: "held", help: "h", registers }),
    took: new Histogram({ name: "took", help: "h", buckets: [1, 2], registers }),
    collect: () => registry.getMetricsAsJSON(),
  };
}

const values = (text: string) =>
  text.split("\n").filter((line) => /^(asked_total|held|took_count|took_sum)/.test(line));

test("counts and histograms of all workers are sums; what a dead one counted stays, what it held goes", async () => {
  const pool = new PooledMetrics();
  const [one, two] = [worker(), worker()];
  for (const [i, { asked, held, took }] of [one, two].entries()) {
    asked.inc({ kind: "a" }, 10 + i);
    held.set(3);
    took.observe(1.5);
  }
  const workers = new Map([
    [1, one.collect],
    [2, two.collect],
  ]);
  const before = ['asked_total{kind="a"} 21', "held 6", "took_sum 3", "took_count 2"];
  expect(values(await pool.text(workers))).toEqual(before);
  workers.delete(1);
  pool.leave(1);
  const after = ['asked_total{kind="a"} 21', "held 3", "took_sum 3", "took_count 2"];
  expect(values(await pool.text(workers)).sort()).toEqual(after.sort());

  const three = worker();
  three.asked.inc({ kind: "a" }, 5);
  workers.set(3, three.collect);
  workers.delete(2);
  pool.leave(2);
  expect(values(await pool.text(workers))).toContain('asked_total{kind="a"} 26');
  expect(values(await pool.text(workers))).toContain("held 0");
});
