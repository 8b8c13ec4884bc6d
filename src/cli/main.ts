#!/usr/bin/env node
import { run } from "./program.js";

// A reader that leaves early, as in `| head`, is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit();
  throw error;
});

await run(process.argv.slice(2));
