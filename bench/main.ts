/** npm run bench [-- QUESTION [its options]]: without a question, all of them in turn. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const QUESTIONS = [
  "overhead",
  "event-loop",
  "requests",
  "formats",
  "contenders",
  "prompts",
  "export",
  "drift",
  "gen",
  "added-latency",
  "context",
  "streams",
  "conversations",
  "load",
  "first-runs",
  "workers",
  "sockets",
  "gateway",
  "dtype",
  "cpu-time",
  "gates",
  "regenerate",
  "regenerate-model",
  "plots",
];

const [question, ...options] = process.argv.slice(2);
if (question && !QUESTIONS.includes(question)) {
  console.error(`Unknown question "${question}". Choose one of ${QUESTIONS.join(", ")}.`);
  process.exit(2);
}
for (const name of question ? [question] : QUESTIONS) {
  console.log(`── ${name}`);
  const script = fileURLToPath(new URL(`${name}.ts`, import.meta.url));
  const { status } = spawnSync(process.execPath, [...process.execArgv, script, ...options], {
    stdio: "inherit",
  });
  if (status !== 0) process.exit(status ?? 1);
}
