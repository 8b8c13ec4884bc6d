import { Command, InvalidArgumentError, Option } from "commander";
import { CONTINUING_SERVERS, type ContinuingServer } from "../../gate/attempt.js";
import type { Mode } from "../../gate/gate-options.js";
import type { ProxyOptions } from "../../gateway/proxy-options.js";
import type { Listening } from "../../gateway/server.js";
import type { PolicyData } from "../../moderation/policy.js";
import { type AuditOptions, announce, auditOptions, closeAudit, openAudit } from "../audit-options.js";
import { POLICY_HINT, readJsonFile } from "../json-file.js";
import { addModelOptions, loadModel, type ModelOptions } from "../model-options.js";
import { whole } from "../numbers.js";
import {
  batchMsOption,
  batchOf,
  batchTokensOption,
  type PaceOptions,
  releaseOption,
} from "../pace-options.js";
import { heedHangup, keepPolicies, readPolicies } from "../policies-file.js";
import {
  accessOptions,
  graceOption,
  hostOption,
  hostsOf,
  portOption,
  several,
  timeoutOption,
} from "../server-options.js";
import { closeWhenAsked, type Stop, untilStopped } from "../stop.js";
import { runsWorkers, runWorkers, shareOf, workersOption } from "../workers.js";

interface Options extends ModelOptions, PaceOptions, AuditOptions {
  upstream: string;
  port: number;
  host: string;
  policy?: string;
  policies?: string;
  mode: Mode | "regenerate";
  continue?: ContinuingServer;
  buffer?: number;
  attempts?: number;
  intervention?: "resample" | "introspection";
  scout?: boolean;
  promptFirst?: boolean;
  readAhead?: boolean;
  replacement?: string;
  annotations: "asked" | "azure";
  allowScore?: boolean;
  errors: "protocol" | "nemo";
  keepAlive: number;
  otherPaths: "pass" | "refuse";
  allowPath: string[];
  allowHost: string[];
  allowOrigin: string[];
  passFields: string[];
  maxStreams?: number;
  maxBody?: number;
  timeout: number;
  grace: number;
  logText?: boolean;
  workers: number;
}

const EXAMPLES = `
Examples:
  $ qwen3guard proxy --upstream https://api.openai.com --port 8787
  $ qwen3guard proxy --upstream http://127.0.0.1:11434 --policy policy.json --prompt-first
  $ curl -N http://127.0.0.1:8787/v1/chat/completions -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
      -d '{"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'

Log: one JSON object a request on standard error, without anybody's text unless --log-text asks for it.`;

export function proxyCommand(): Command {
  const command = new Command("proxy")
    .summary("stand between a model's API and its clients")
    .description(
      "Answers like the API behind it, with the guard between: prompts and answers are judged as they pass. " +
        "Judged are POST …/chat/completions, …/completions, …/responses (OpenAI), …/v1/messages (Anthropic), …/api/chat and " +
        "…/api/generate (Ollama); /v1/moderations, /metrics, /healthz and /livez are its own. Lists of models and embeddings pass; " +
        "other paths are refused.",
    )
    .addHelpText("after", EXAMPLES)
    .action((options: Options) => untilStopped((stop) => proxy(options, stop)));
  const options = [
    new Option("--upstream <url>", "the API, with or without /v1").makeOptionMandatory().argParser(url),
    portOption(8787),
    hostOption(),
    new Option("--policy <file>", "JSON file with a policy (default: strict, everything blocks)"),
    ...modeOptions(),
    releaseOption(),
    batchTokensOption(),
    batchMsOption(),
    ...judgingOptions(),
    ...answerOptions(),
    ...passOptions(),
    ...accessOptions(),
    ...limitOptions(),
    workersOption(),
    new Option("--log-text", "let log entries hold the text that was flagged"),
    ...auditOptions(),
  ];
  for (const option of options) command.addOption(option);
  return addModelOptions(command);
}

function modeOptions(): Option[] {
  return [
    new Option(
      "--mode <mode>",
      "hold text back until it is judged, judge it while it passes, let it pass on the scout's word, or have the model go " +
        "on in another way where it is flagged",
    )
      .choices(["hold-back", "stream-first", "scout-first", "regenerate"])
      .default("hold-back"),
    new Option("--continue <server>", "what the API is, for --mode regenerate").choices(CONTINUING_SERVERS),
    new Option(
      "--buffer <tokens>",
      "of --mode regenerate: tokens held, and dropped at a flag (default: 40)",
    ).argParser(whole(1, 1024)),
    new Option(
      "--attempts <n>",
      "of --mode regenerate: how often the model is asked to go on (default: 5)",
    ).argParser(whole(1, 100)),
    new Option(
      "--intervention <what>",
      "of --mode regenerate: go on as it is, or say first what was wrong",
    ).choices(["resample", "introspection"]),
  ];
}

function judgingOptions(): Option[] {
  return [
    new Option(
      "--scout",
      "let the embedded guard read every token, and the other judge in batches and where it suspects",
    ),
    new Option(
      "--policies <file>",
      "JSON file with policies by model, path, key or header; read again when it changes",
    ),
    new Option("--prompt-first", "ask the model only once the prompt has passed"),
    new Option(
      "--read-ahead",
      "while nothing else runs, read an answer as the next turn will show it, which then pays for its question alone",
    ),
  ];
}

/** What else a client is told. */
function answerOptions(): Option[] {
  return [
    new Option(
      "--replacement <text>",
      "answers in the model's place where the policy stops it and has no text",
    ),
    new Option(
      "--annotations <style>",
      "scores beside the text: OpenAI's where a request asks for moderation, or Azure's always",
    )
      .choices(["asked", "azure"])
      .default("asked"),
    new Option("--allow-score", "let requests that ask for scores (moderation) pass what the policy stops"),
    new Option("--errors <style>", "how a stopped stream ends: as its protocol's do, or as NeMo Guardrails'")
      .choices(["protocol", "nemo"])
      .default("protocol"),
    new Option("--keep-alive <seconds>", "without a word, after which a stream's client gets one; 0: never")
      .default(15)
      .argParser(whole(0, 3600)),
  ];
}

/** What passes unjudged. */
function passOptions(): Option[] {
  return [
    new Option(
      "--other-paths <what>",
      "paths that are not judged: let all of them pass, or only those opened",
    )
      .choices(["pass", "refuse"])
      .default("refuse"),
    several("--allow-path <path>", 'lets a path pass unjudged: "/v1/files/*", "GET /v1/responses/**"'),
    several("--pass-fields <name>", "lets a field of this name pass unjudged"),
  ];
}

function limitOptions(): Option[] {
  return [
    new Option("--max-streams <n>", "choices judged at once; more get 429").argParser(whole(1, 4096)),
    new Option(
      "--max-body <bytes>",
      "of a request (default: what the guard can read; 10 MiB where attachments may pass)",
    ).argParser(whole(1, 2 ** 31)),
    timeoutOption(),
    graceOption(),
  ];
}

async function proxy(options: Options, stop: Stop): Promise<void> {
  const { upstream, mode, host, maxStreams, readAhead } = options;
  const say = (url: string) => announce(url, `guards ${upstream} (${mode})`, warnings(options), options);
  if (options.policies || options.audit) heedHangup();
  if (runsWorkers(options)) return runWorkers(options, stop, say);
  const [{ GuardProxy }, { listen }, { isWorker, pooledMetrics, serveInPool }] = await Promise.all([
    import("../../gateway/proxy.js"),
    import("../../gateway/server.js"),
    import("../../gateway/cluster/worker.js"),
  ]);
  const policy = options.policy && (await readJsonFile(options.policy, "POLICY", POLICY_HINT));
  const audit = await openAudit(options);
  const guard = await loadModel(shareOf(options), { maxStreams, readAhead, signal: stop.asked });
  try {
    if (stop.asked.aborted) return;
    const service = new GuardProxy(guard, {
      ...options,
      policy: policy as PolicyData | undefined,
      policies: options.policies && (await readPolicies(options.policies)),
      batch: batchOf(options),
      regenerate: regenerateOf(options),
      allowPaths: options.allowPath,
      allowOrigins: options.allowOrigin,
      allowHosts: hostsOf(options),
      metrics: isWorker ? pooledMetrics : undefined,
      audit,
      log: (entry) => process.stderr.write(`${JSON.stringify(entry)}\n`),
    });
    if (options.policies) keepPolicies(options.policies, (policies) => service.usePolicies(policies));
    const closing = (server: Listening) => closeWhenAsked(server, options.grace, stop);
    if (isWorker) return await serveInPool(service, service.metrics.registry, closing);
    const server = await listen(service, options.port, host);
    const closed = closing(server);
    say(server.url);
    await closed;
  } finally {
    await guard.close();
    await closeAudit(audit);
  }
}

/** Undefined where nothing of it was said. */
function regenerateOf({ buffer, attempts, intervention }: Options): ProxyOptions["regenerate"] {
  const given = { buffer, attempts, intervention };
  return Object.values(given).some((value) => value !== undefined) ? given : undefined;
}

/** What somebody should know who did not mean it. */
function warnings(options: Options): string[] {
  const found: string[] = [];
  if (options.otherPaths === "pass") {
    found.push(
      "Warning: Paths that are not judged all pass (--other-paths pass). --allow-path opens single ones.",
    );
  }
  if (hostsOf(options).includes("*")) {
    found.push(
      `Warning: Whoever reaches ${options.host} may use it, under any Host. --allow-host NAME takes requests for that name alone.`,
    );
  }
  return found;
}

function url(value: string): string {
  if (!/^https?:\/\//.test(value) || !URL.canParse(value)) {
    throw new InvalidArgumentError("it must be an address such as https://api.openai.com");
  }
  const { username, password, search } = new URL(value);
  if (username || password || search) {
    throw new InvalidArgumentError("keys and queries are the clients' to send; give the address alone");
  }
  return value;
}
