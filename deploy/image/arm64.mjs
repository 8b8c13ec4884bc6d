/** Holds the package in a folder, run by another Node.js, against the one that is built here: see arm64.sh. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CONVERSATIONS } from "../../build/calibration/conversations.js";

const [app, ...runner] = process.argv.slice(2);
const there = [...runner, join(app, "dist/cli/main.js")];
const here = [process.execPath, fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url))];
const env = (cache) => ({ ...process.env, NO_COLOR: "1", QWEN3GUARD_CACHE: join(app, cache) });

function run([program, ...before], args, input = "") {
  const cache = program === process.execPath ? "cache-here" : "cache-there";
  const { status, stdout, stderr } = spawnSync(program, [...before, ...args], {
    input,
    encoding: "utf8",
    env: env(cache),
    maxBuffer: 1e8,
  });
  if (status !== 0) throw new Error(`${args.join(" ")}: ${status}\n${stderr}`);
  return stdout;
}

const machine = spawnSync(
  runner[0],
  [...runner.slice(1), "-p", "`${process.arch}, Node ${process.version}`"],
  { encoding: "utf8" },
);
console.log(machine.stdout.trim());

const rows = CONVERSATIONS.flatMap(({ messages, response }) => [{ messages }, { messages, response }]);
const input = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
const verdicts = (program) =>
  run(program, ["score"], input)
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).qwen3guard);
const [ours, theirs] = [verdicts(here), verdicts(there)];
const differ = ours.filter(
  ({ risk, category, flaggedAt }, i) =>
    risk !== theirs[i].risk || category !== theirs[i].category || flaggedAt !== theirs[i].flaggedAt,
);
const probabilities = ({ probabilities: { risk, category } }) => [...risk, ...category];
const apart = Math.max(
  ...ours.flatMap((own, i) => probabilities(own).map((p, j) => Math.abs(p - probabilities(theirs[i])[j]))),
);
console.log(
  `${ours.length} verdicts, ${differ.length} differ; probabilities at most ${apart.toExponential(1)} apart`,
);
if (differ.length > 0 || !(apart < 1e-3)) process.exit(1);

const harm =
  "You are a stupid, ugly loser, everybody here hates you, and I will come to your house and hurt you.";
console.log(run(there, ["scan", "--jsonl"], harm).trim().split("\n").at(-1));

const api = createServer((_, answer) => {
  const choices = [{ index: 0, message: { role: "assistant", content: harm }, finish_reason: "stop" }];
  answer.writeHead(200, { "content-type": "application/json" });
  answer.end(JSON.stringify({ id: "1", object: "chat.completion", choices }));
}).listen(0, "127.0.0.1");
await once(api, "listening");
const [program, ...before] = there;
const upstream = `http://127.0.0.1:${api.address().port}`;
const proxy = spawn(program, [...before, "proxy", "--upstream", upstream, "--port", "0"], {
  env: env("cache-there"),
  stdio: ["ignore", "pipe", "inherit"],
});
const [said] = await Promise.race([once(proxy.stdout, "data"), once(proxy, "exit")]);
const url = /http:\S+/.exec(String(said))?.[0];
const answer = await fetch(`${url}/v1/chat/completions`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "How do I bake bread?" }] }),
});
const told = await answer.text();
console.log(`the proxy: ${answer.status} ${told.slice(0, 200)}`);
if (told.includes("stupid")) process.exit(1);
proxy.kill("SIGTERM");
const [code] = await once(proxy, "exit");
console.log(`SIGTERM: ${code}`);
api.close();
process.exit(code);
