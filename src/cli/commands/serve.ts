import { existsSync } from "node:fs";
import { basename, resolve } from "node:path";
import { Command, Option } from "commander";
import { InputError } from "../../errors.js";
import { isLoopbackName } from "../../gateway/access/loopback.js";
import type { Listening } from "../../gateway/server.js";
import type { PolicyData } from "../../moderation/policy.js";
import { type AuditOptions, announce, auditOptions, closeAudit, openAudit } from "../audit-options.js";
import { POLICY_HINT, readJsonFile } from "../json-file.js";
import { addModelOptions, loadAnyModel } from "../model-options.js";
import { whole } from "../numbers.js";
import { heedHangup } from "../policies-file.js";
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
import { runsWorkers, runWorkers, shareOf, type WorkersOptions, workersOption } from "../workers.js";

interface Options extends WorkersOptions, AuditOptions {
  servedModelName?: string;
  policy?: string;
  apiKey: string[];
  apiKeyFile?: string;
  rateLimit?: number;
  allowHost: string[];
  allowOrigin: string[];
  maxStreams?: number;
  maxBody?: number;
  timeout: number;
  idle: number;
}

/** A file of keys, in bytes. */
const LARGEST_KEYS = 1 << 20;

const EXAMPLES = `
Examples:
  $ qwen3guard serve --model Qwen/Qwen3Guard-Gen-0.6B --port 8000
  $ qwen3guard serve --api-key-file keys.txt --host 0.0.0.0
  $ curl http://127.0.0.1:8000/v1/chat/completions -H "Content-Type: application/json" \\
      -d '{"model": "Qwen/Qwen3Guard-Gen-0.6B", "messages": [{"role": "user", "content": "How do I bake bread?"}]}'

Log: one JSON object a request on standard error, without anybody's text.`;

export function serveCommand(): Command {
  const command = new Command("serve")
    .summary("answer requests for verdicts, as a served Qwen3Guard-Gen does")
    .description(
      "Serves a guard of either kind. POST /v1/chat/completions answers in Qwen3Guard-Gen's words, as vLLM does that serves " +
        "it; /v1/moderations in OpenAI's schema; /v1/classify with all probabilities. A Stream guard judges token streams " +
        "at /v1/streams, by WebSocket or by requests.",
    )
    .addHelpText("after", EXAMPLES)
    .action((options: Options) => untilStopped((stop) => serve(options, stop)));
  const options = [
    portOption(8000),
    hostOption(),
    new Option(
      "--served-model-name <name>",
      "what /v1/models calls it (default: the model as it is named here)",
    ),
    new Option("--policy <file>", "JSON file with a policy, for `flagged` and rulings"),
    several("--api-key <key>", "asks clients for this key"),
    new Option("--api-key-file <file>", "asks for one of the keys in this file, a line each"),
    new Option(
      "--rate-limit <n>",
      "requests a minute of each client, told by its key; more get 429",
    ).argParser(whole(1, 1e6)),
    ...accessOptions(),
    ...limitOptions(),
    workersOption(),
    ...auditOptions(),
  ];
  for (const option of options) command.addOption(option);
  return addModelOptions(command);
}

function limitOptions(): Option[] {
  return [
    new Option("--max-streams <n>", "token streams at once; more get 429").argParser(whole(1, 4096)),
    new Option("--max-body <bytes>", "of a request (default: what the guard can read)").argParser(
      whole(1, 2 ** 31),
    ),
    timeoutOption(),
    new Option("--idle <seconds>", "a token stream may have nothing to do")
      .default(60)
      .argParser(whole(1, 86_400)),
    graceOption(),
  ];
}

async function serve(options: Options, stop: Stop): Promise<void> {
  const name = options.servedModelName ?? nameOf(options.model);
  const apiKeys = await keysOf(options);
  const warnings = warningsOf(options, apiKeys);
  const say = (url: string, what: string) => announce(url, `serves ${what}`, warnings, options);
  if (options.audit) heedHangup();
  if (!runsWorkers(options)) return serveHere(options, stop, { name, apiKeys }, say);
  const { shares } = await import("../../serve/keys.js");
  const { rateLimit } = options;
  const mayAsk = rateLimit === undefined ? undefined : shares(rateLimit);
  return runWorkers(options, stop, (url) => say(url, name), mayAsk);
}

/** In this process: the only one, or a worker. */
async function serveHere(
  options: Options,
  stop: Stop,
  named: { name: string; apiKeys: string[] },
  say: (url: string, what: string) => void,
): Promise<void> {
  const [{ GuardService }, { listen }, { isWorker, ...pool }, { SiblingStreams, streamIdsOf }] =
    await Promise.all([
      import("../../serve/service.js"),
      import("../../gateway/server.js"),
      import("../../gateway/cluster/worker.js"),
      import("../../serve/sibling-streams.js"),
    ]);
  const policy = options.policy && (await readJsonFile(options.policy, "POLICY", POLICY_HINT));
  const audit = await openAudit(options);
  const guard = await loadAnyModel(shareOf(options), { signal: stop.asked });
  try {
    if (stop.asked.aborted) return;
    const { host, maxStreams, maxBody, timeout, idle, rateLimit } = options;
    const service = new GuardService(guard, {
      ...{ maxStreams, maxBody, timeout, idle, rateLimit, ...named },
      policy: policy as PolicyData | undefined,
      allowHosts: hostsOf(options),
      allowOrigins: options.allowOrigin,
      audit,
      log: (entry) => process.stderr.write(`${JSON.stringify(entry)}\n`),
      ...(isWorker && {
        metrics: pool.pooledMetrics,
        take: pool.pooledRate,
        newStreamId: streamIdsOf(pool.workerNumber),
      }),
    });
    const closing = (server: Listening) => closeWhenAsked(server, options.grace, stop);
    if (isWorker) {
      const shared = new SiblingStreams(service, pool.workerNumber, pool.siblingAt);
      return await pool.serveInPool(shared, service.metrics.registry, closing);
    }
    const server = await listen(service, options.port, host);
    const kind = guard.manifest.config.kind === "gen" ? "a Gen guard" : "a Stream guard";
    const closed = closing(server);
    say(server.url, `${kind} (${guard.manifest.dtype}, ${guard.device})`);
    await closed;
  } finally {
    await guard.close();
    await closeAudit(audit);
  }
}

/** A hub id as it is; of a folder its own name, since where it lies is nobody's business. */
function nameOf(model: string | undefined): string {
  if (model === undefined) return "qwen3guard";
  return existsSync(model) ? basename(resolve(model)) : model;
}

/** The keys that clients are asked for; none: nobody is asked. @throws {InputError} KEYS_INVALID */
async function keysOf({ apiKey, apiKeyFile }: Options): Promise<string[]> {
  const fromFile = apiKeyFile === undefined ? [] : await readKeys(apiKeyFile);
  const keys = [...apiKey.map((key) => key.trim()), ...fromFile];
  requireSendable(keys);
  return keys;
}

/** What somebody should know who did not mean it. */
function warningsOf({ host, allowHost }: Options, apiKeys: readonly string[]): string[] {
  if (allowHost.length > 0 || isLoopbackName(host) || apiKeys.length > 0) return [];
  return [`Warning: Whoever reaches ${host} may use it. --api-key asks for a key.`];
}

/** @throws {InputError} KEYS_INVALID */
async function readKeys(path: string): Promise<string[]> {
  const { readText } = await import("../../files/regular-file.js");
  const text = await readText(path, LARGEST_KEYS).catch((cause) => {
    throw new InputError(
      "KEYS_INVALID",
      `The file of keys, ${path}, cannot be read (${cause.code ?? cause.message}).`,
      {
        cause,
      },
    );
  });
  const keys = text.split(/\r?\n/).map((line) => line.trim());
  const found = keys.filter((key) => key !== "");
  if (found.length > 0) return found;
  throw new InputError("KEYS_INVALID", `The file of keys, ${path}, holds none: write one a line.`);
}

/**
 * A variable that is not set must not make a service that asks nobody for a key, nor a remark in a file of keys one that
 * many could guess.
 *
 * @throws {InputError} KEYS_INVALID
 */
function requireSendable(keys: readonly string[]): void {
  if (keys.every((key) => /^(?!#)[!-~]+$/.test(key))) return;
  throw new InputError(
    "KEYS_INVALID",
    "A key is empty, holds a space or what no header can, or begins with #, like a remark, which files of keys have none of: use letters, digits and signs of ASCII. To ask for none, leave --api-key out.",
  );
}
