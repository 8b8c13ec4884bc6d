// Runs before the program (NODE_OPTIONS=--import), in it and in its workers. The one whose number is HOLD_WORKER (0: the first
// process) stands still, either before it has begun or while it loads its model, until the file HOLD is gone.
import cluster from "node:cluster";
import { existsSync, writeFileSync } from "node:fs";
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { setTimeout } from "node:timers/promises";

const { HOLD, HOLD_WORKER, HOLD_AT } = process.env;

async function hold() {
  writeFileSync(`${HOLD}.${process.pid}`, "");
  while (existsSync(HOLD)) await setTimeout(10);
}

if (String(cluster.worker?.id ?? 0) === HOLD_WORKER) {
  const { open } = fs;
  fs.open = async (path, ...how) => {
    if (String(path).endsWith("tokenizer.json")) await hold();
    return open(path, ...how);
  };
  if (HOLD_AT === "load") syncBuiltinESMExports();
  else await hold();
}
