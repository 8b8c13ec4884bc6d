#!/usr/bin/env node
import { isWorker } from "./cluster.js";
import "./stop.js";

// A reader that leaves early, as in `| head`, is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit();
  throw error;
});

// After `stop.js` has begun to listen: it takes a while to load.
const { run } = await import("./program.js");
await run(process.argv.slice(2));
// The pool that started it would keep it.
if (isWorker) process.disconnect();
