import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { proxyCommand } from "../../src/cli/commands/proxy.js";
import { serveCommand } from "../../src/cli/commands/serve.js";
import { Metrics } from "../../src/gateway/record/metrics.js";

const HELM_FOLDER = fileURLToPath(new URL("../../deploy/helm", import.meta.url));
const CACHE = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
const HELM = join(CACHE, "qwen3guard-ci/kubernetes-1.30.0/helm");

// biome-ignore lint/suspicious/noExplicitAny: Kubernetes' objects, which kubeconform holds against their description.
type Manifest = any;

/** The chart's objects by their kind. */
function render(...options: string[]): Record<string, Manifest> {
  const args = ["template", "guard", "qwen3guard", "--kube-version", "1.30.0", ...options];
  const text = execFileSync(HELM, args, { cwd: HELM_FOLDER, encoding: "utf8" });
  const objects = parseAllDocuments(text).map((document) => document.toJS() as Manifest);
  return Object.fromEntries(objects.map((object) => [object.kind, object]));
}

function podOf(objects: Record<string, Manifest>) {
  const { metadata, spec } = objects.Deployment.spec.template;
  return { labels: metadata.labels, annotations: metadata.annotations, spec, container: spec.containers[0] };
}

describe.skipIf(!existsSync(HELM))("the chart", () => {
  const all = existsSync(HELM) ? render("-f", "ci/all.yaml") : {};
  const serve = existsSync(HELM) ? render("-f", "ci/serve.yaml") : {};

  test("a pod that is to go is left alone first, then has its time of grace", () => {
    const { spec, container } = podOf(
      render("-f", "ci/all.yaml", "--set", "graceSeconds=90,preStopSeconds=7"),
    );
    expect(container.args).toContain("--grace=90");
    expect(container.lifecycle.preStop.exec.command).toEqual(["sleep", "7"]);
    expect(spec.terminationGracePeriodSeconds).toBeGreaterThan(90 + 7);
  });

  test("a pod counts for ready by /healthz, and no longer after one answer that is not; a restart takes no pod before one is added", () => {
    const { container } = podOf(all);
    expect(container.readinessProbe).toMatchObject({
      httpGet: { path: "/healthz", port: "http" },
      failureThreshold: 1,
      periodSeconds: 2,
    });
    expect(container.ports).toEqual([{ name: "http", containerPort: 8787 }]);
    expect(all.Deployment.spec.strategy.rollingUpdate).toEqual({ maxUnavailable: 0, maxSurge: 1 });
  });

  test("a pod is restarted that answers nothing for longer than a worker may hang, and not one that drains or has much to do", () => {
    const { livenessProbe, startupProbe } = podOf(all).container;
    for (const { httpGet } of [livenessProbe, startupProbe])
      expect(httpGet).toMatchObject({ path: "/livez", port: "http" });
    expect(livenessProbe.periodSeconds * livenessProbe.failureThreshold).toBeGreaterThan(70);
    expect(livenessProbe.timeoutSeconds).toBeGreaterThan(5);
    // A minute to load, a few to export what no image brought along.
    expect(startupProbe.periodSeconds * startupProbe.failureThreshold).toBe(600);
  });

  test("every probe asks under a name that the server goes by", () => {
    for (const { container } of [podOf(all), podOf(serve)])
      for (const probe of ["readinessProbe", "startupProbe", "livenessProbe"])
        expect(container[probe].httpGet.httpHeaders).toEqual([{ name: "Host", value: "localhost" }]);
  });

  test("pods are added by processor, slots in use and lag, which the proxy has metrics of", async () => {
    const { scaleTargetRef, metrics } = all.HorizontalPodAutoscaler.spec;
    expect(scaleTargetRef).toMatchObject({ kind: "Deployment", name: all.Deployment.metadata.name });
    expect(all.Deployment.spec).not.toHaveProperty("replicas");
    const [cpu, slots, lag] = metrics;
    expect(cpu.resource).toMatchObject({ name: "cpu", target: { averageUtilization: 70 } });
    expect(slots.pods).toMatchObject({
      metric: { name: "qwen3guard_slots", selector: { matchLabels: { state: "active" } } },
      target: { averageValue: "12" },
    });
    expect(lag.pods).toMatchObject({
      metric: { name: "nodejs_eventloop_lag_p99_seconds" },
      target: { averageValue: "100m" },
    });
    const guard = { load: { active: 0, waiting: 0, reusedTokens: 0, prefilledTokens: 0 } };
    const told = await new Metrics(guard as never, () => 0).registry.metrics();
    expect(told).toContain('qwen3guard_slots{state="active"} ');
    expect(told).toContain("nodejs_eventloop_lag_p99_seconds ");
  });

  test.each([
    ["Service", (spec: Manifest) => spec.selector],
    ["PodDisruptionBudget", (spec: Manifest) => spec.selector.matchLabels],
    ["NetworkPolicy", (spec: Manifest) => spec.podSelector.matchLabels],
    ["Deployment", (spec: Manifest) => spec.selector.matchLabels],
  ])("the %s is of the pods", (kind, selectorOf) => {
    for (const objects of [all, serve]) {
      const selector = selectorOf(objects[kind].spec);
      expect(Object.keys(selector)).toHaveLength(2);
      expect(podOf(objects).labels).toMatchObject(selector);
    }
  });

  test("one pod at a time may be missing", () => {
    expect(all.PodDisruptionBudget.spec.maxUnavailable).toBe(1);
    expect(render("-f", "ci/all.yaml", "--set", "podDisruptionBudget.enabled=false")).not.toHaveProperty(
      "PodDisruptionBudget",
    );
  });

  test("the network lets in what is asked for at its port, and out to names and the API", () => {
    const { ingress, egress, policyTypes } = serve.NetworkPolicy.spec;
    expect(policyTypes).toEqual(["Ingress", "Egress"]);
    expect(ingress).toEqual([{ ports: [{ port: "http" }], from: [{ podSelector: {} }] }]);
    expect(egress[0].ports.map(({ port }: Manifest) => port)).toEqual([53, 53]);
    expect(egress[1].ports.map(({ port }: Manifest) => port)).toEqual([443, 80]);
    expect(all.NetworkPolicy.spec.egress[1]).toEqual({ to: [{ ipBlock: { cidr: "0.0.0.0/0" } }] });
  });

  test("keys come from a Secret as a file, and stand nowhere else", () => {
    const { spec, container } = podOf(serve);
    expect(spec.volumes).toContainEqual({ name: "keys", secret: { secretName: "guard-keys" } });
    expect(container.volumeMounts).toContainEqual({ name: "keys", mountPath: "/keys", readOnly: true });
    expect(container.args).toContain("--api-key-file=/keys/keys");
    expect(container).not.toHaveProperty("env");
    expect(JSON.stringify(all)).not.toContain('secretName":"guard-keys');
  });

  test("a GPU is asked for where there is to be one, beside the processor", () => {
    const { spec, container } = podOf(all);
    expect(container.args).toContain("--device=cuda");
    expect(container.resources.limits).toMatchObject({ "nvidia.com/gpu": 1, memory: "4Gi" });
    expect(container.resources.requests).toMatchObject({ cpu: "2" });
    expect(spec.tolerations).toEqual([{ key: "nvidia.com/gpu", operator: "Exists" }]);
    const classed = podOf(render("-f", "ci/all.yaml", "--set", "gpu.runtimeClassName=nvidia"));
    expect(classed.spec.runtimeClassName).toBe("nvidia");
    expect(JSON.stringify(podOf(serve))).not.toContain("nvidia");
  });

  test("pods are not root, write into volumes alone, and have no rights", () => {
    for (const { spec } of [podOf(all), podOf(serve)]) {
      expect(spec).toMatchObject({
        automountServiceAccountToken: false,
        securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: "RuntimeDefault" } },
      });
      for (const { securityContext } of [...(spec.initContainers ?? []), ...spec.containers]) {
        expect(securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        });
      }
    }
  });

  test("a policy that changes starts the pods anew with it", () => {
    const other = podOf(render("-f", "ci/all.yaml", "--set", "policy.action=observe"));
    const { annotations, container } = podOf(all);
    expect(container.args).toContain("--policy=/policy/policy.json");
    expect(JSON.parse(all.ConfigMap.data["policy.json"])).toEqual({ action: "block" });
    expect(other.annotations["checksum/policy"]).not.toBe(annotations["checksum/policy"]);
  });

  test("what the container is started with are options of its command", () => {
    for (const [objects, command] of [[all, proxyCommand()] as const, [serve, serveCommand()] as const]) {
      const [name, ...args] = podOf(objects).container.args as string[];
      expect(name).toBe(command.name());
      const known = command.options.map(({ long }) => long);
      for (const arg of args) expect(known).toContain(arg.split("=")[0]);
    }
  });

  test.each([
    ["without an upstream", []],
    ["of a command that serves nothing", ["--set", "command=scan"]],
    ["with an ingress of no host", ["--set", "upstream=https://api.example.com,ingress.enabled=true"]],
  ])("an installation %s is refused", (_, options) => {
    const { status } = spawnSync(HELM, ["template", "guard", "qwen3guard", ...options], { cwd: HELM_FOLDER });
    expect(status).toBe(1);
  });
});
