// Runs before a program (--import). Once the program is done, it runs again in the same process, with the arguments in AGAIN
// (JSON): what it imports is loaded once for both. A record separator stands between what they say.
import { pathToFileURL } from "node:url";

process.once("beforeExit", async () => {
  const [, program] = process.argv;
  process.argv.splice(2, Number.POSITIVE_INFINITY, ...JSON.parse(process.env.AGAIN));
  process.stdout.write("\x1e");
  await import(`${pathToFileURL(program)}?again`);
});
