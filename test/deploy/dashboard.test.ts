import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { Metrics } from "../../src/gateway/record/metrics.js";

test("the dashboard asks for metrics and labels that the proxy has", async () => {
  const file = new URL("../../deploy/compose/grafana/dashboards/qwen3guard.json", import.meta.url);
  const { panels } = JSON.parse(await readFile(file, "utf8"));
  const guard = { load: { active: 0, waiting: 0, reusedTokens: 0, prefilledTokens: 0 } };
  const { registry } = new Metrics(guard as never, () => 0, { failures: 0, waiting: 0 });
  const known = registry.getMetricsAsArray() as unknown as { name: string; labelNames?: string[] }[];
  const names = known.flatMap(({ name }) => [name, `${name}_bucket`]);
  const asked: string[] = panels.flatMap((panel: { targets: { expr: string }[] }) =>
    panel.targets.map(({ expr }) => expr),
  );
  expect(asked.length).toBeGreaterThan(10);
  const told = await registry.metrics();
  for (const expr of asked) {
    const metrics = expr.match(/\b(qwen3guard|nodejs|process)_\w+/g) ?? [];
    expect(metrics).not.toEqual([]);
    for (const name of metrics) expect(names).toContain(name);
    for (const [selector] of expr.matchAll(/\w+\{[^}]*\}/g)) expect(told).toContain(selector);
    const labels = /by \(([^)]*)\)/.exec(expr)?.[1]?.split(", ") ?? [];
    const own = known.find(({ name }) => metrics[0]?.startsWith(name))?.labelNames ?? [];
    for (const label of labels) expect([...own, "instance", "le"]).toContain(label);
  }
});
