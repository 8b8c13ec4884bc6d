/**
 * Runs an image's root file system as a container engine would that keeps it read-only: see check.sh. In mount and process
 * namespaces of its own; prints a line for each thing that holds, and fails at the first that does not.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [root, described] = process.argv.slice(2);
const { config } = JSON.parse(readFileSync(described, "utf8")).Docker;
const mount = (...args) => execFileSync("mount", args);

const cache = mkdtempSync(join(tmpdir(), "qwen3guard-cache-"));
execFileSync("cp", ["-a", `${root}/cache/.`, cache]);
mount("--make-rprivate", "/");
mount("--bind", root, root);
mount("-o", "remount,bind,ro", root);
mount("--bind", cache, `${root}/cache`);
mount("-t", "tmpfs", "tmpfs", `${root}/tmp`);
mount("-t", "proc", "proc", `${root}/proc`);
mount("--bind", "/dev", `${root}/dev`);

/** A command in the container, with its own user and environment, and nothing of this machine's. */
function inside(command) {
  const [user, group] = config.User.split(":");
  const rights = [
    "--reuid",
    user,
    "--regid",
    group,
    "--clear-groups",
    "--no-new-privs",
    "--bounding-set=-all",
  ];
  const args = [...rights, "env", "-i", ...config.Env, "HOME=/home/node", ...command];
  return ["unshare", ["--root", root, "--wd", config.WorkingDir || "/", "setpriv", ...args]];
}
const run = (command, input = "") => spawnSync(...inside(command), { input, encoding: "utf8" });

function hold(what, holds, seen = "") {
  if (!holds) throw new Error(`not so: ${what} ${seen}`);
  console.log(`ok: ${what}`);
}

const program = (...args) => [...config.Entrypoint, ...args];
hold("its user is not root", /^[1-9]\d*:[1-9]\d*$/.test(config.User), config.User);
const written = run([
  "sh",
  "-c",
  "touch /app/x /x; touch /cache/x /tmp/x && id -u && grep CapEff /proc/self/status",
]);
hold(
  "it writes into /cache and /tmp alone",
  written.status === 0 && written.stderr.split("Read-only").length === 3,
  written.stderr,
);
hold("it has no capabilities", /^1000\nCapEff:\t0+$/m.test(written.stdout), written.stdout);
const doctor = run(program("doctor"));
hold("doctor finds nothing wrong", doctor.status === 0, doctor.stdout + doctor.stderr);
const scan = run(
  program("scan"),
  "You are a stupid, ugly loser, and I will come to your house and hurt you.",
);
hold("scan finds harm", scan.status === 0 && /response  Unsafe/.test(scan.stdout + scan.stderr), scan.stderr);

const cuda = config.Env.find((pair) => pair.startsWith("QWEN3GUARD_CUDA="));
if (cuda) {
  const { libraries, libraryDir } = JSON.parse(run(program("cuda", "status", "--json")).stdout);
  const missing = libraries.filter(({ path }) => path === null).map(({ name }) => name);
  hold(`CUDA's ${libraries.length} libraries are there`, libraries.length > 0 && missing.length === 0, missing);
  const provider = `${libraryDir}/libonnxruntime_providers_cuda.so`;
  const { stdout, stderr } = run(["env", `LD_LIBRARY_PATH=${libraryDir}`, "ldd", provider]);
  const needed = [...stdout.matchAll(/(\S+) => not found/g)].map(([, name]) => name);
  const found = stdout.includes("libcublas") && needed.every((name) => name === "libcuda.so.1");
  hold("and all that they need but the driver", found, `${needed} ${stderr}`);
}

// On this machine's own loopback, so that it needs no network of its own.
const api = createServer((_, answer) => {
  const choices = [
    {
      index: 0,
      message: { role: "assistant", content: "Knead the dough, then let it rest." },
      finish_reason: "stop",
    },
  ];
  answer
    .writeHead(200, { "content-type": "application/json" })
    .end(JSON.stringify({ id: "1", object: "chat.completion", choices }));
}).listen(0, "127.0.0.1");
await once(api, "listening");
const proxy = spawn(
  ...inside(program("proxy", "--upstream", `http://127.0.0.1:${api.address().port}`, "--workers", "2")),
  { stdio: ["ignore", "pipe", "inherit"] },
);
const [said] = await Promise.race([once(proxy.stdout, "data"), once(proxy, "exit")]);
const url = /http:\S+/.exec(String(said))?.[0];
hold("the proxy listens", url === "http://127.0.0.1:8787", String(said));
const [, ...health] = config.Healthcheck.Test;
hold("its health check passes", run(health).status === 0);
const answer = await fetch(`${url}/v1/chat/completions`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "How do I bake bread?" }] }),
});
hold("an answer passes", answer.status === 200 && /Knead/.test(await answer.text()), String(answer.status));
proxy.kill("SIGTERM");
const [code] = await once(proxy, "exit");
hold("SIGTERM ends it with 0", code === 0, String(code));
hold("its health check fails then", run(health).status !== 0);
api.close();
