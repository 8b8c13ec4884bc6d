#!/usr/bin/env node
import cluster from "node:cluster";
import { run } from "./program.js";

// A reader that leaves early, as in `| head`, is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit();
  throw error;
});

await run(process.argv.slice(2));
// The pool that started it would keep it.
if (cluster.isWorker) process.disconnect();
