/**
 * What does it cost to have an answer go on in another way? A scripted model turns, as often as it is told, and then no more;
 * counted in tokens of the guard: what waits, what is generated and dropped, and what the guard runs. No clock is read.
 */
import type { Attempt } from "../src/gate/attempt.js";
import { loadGuard } from "../src/guard.js";
import { EXAMPLES } from "../src/playground/examples.js";
import { report } from "./report.js";

const BUFFERS = [5, 10, 20, 40, 80];
const TURNS = [1, 3];
const HARMLESS =
  " May the year be kind to you, and may there always be someone to share the cake with. Your friends.";

const example = EXAMPLES.find(({ title }) => title === "An answer that turns");
if (!example) throw new Error("The example is gone.");
const { messages, response } = example;
const guard = await loadGuard(undefined, { maxStreams: 2, maxTokens: 1024 });
const count = (text: string) => guard.tokenizer.encode(text).length;

async function run(buffer: number, turns: number) {
  let generated = 0;
  let released = "";
  const waiting: number[] = [];
  async function* model(_: AbortSignal, { attempt, prefix }: Attempt) {
    const rest = attempt < turns ? response.slice(prefix.length) : HARMLESS;
    let given = prefix;
    for (const word of rest.split(/(?= )/)) {
      given += word;
      generated += count(word);
      yield word;
      // A model that is slower than its guard: what a batch holds may wait, and nothing more.
      const half = Math.max(1, Math.floor(buffer / 2));
      do await new Promise(setImmediate);
      while (count(given.slice(given.length - stream.stats.lag)) > half);
      waiting.push(count(given.slice(released.length)));
    }
  }
  const stream = guard.moderate(model, { messages, mode: "regenerate", buffer, attempts: 5 });
  try {
    for await (const text of stream) released += text;
  } catch {
    // Its outcome tells.
  }
  const { end, decision, stats } = await stream.done;
  const answer = count(released);
  return {
    ...{
      buffer,
      turns,
      end,
      regenerations: stats.regenerations,
      answer,
      generated,
      again: generated - answer,
    },
    waitingMean: Math.round((waiting.reduce((sum, n) => sum + n, 0) / waiting.length) * 10) / 10,
    waitingMost: Math.max(...waiting),
    ...{ judged: stats.tokens, judgedInOneGo: decision?.tokens ?? null },
  };
}

const runs = [];
for (const turns of TURNS) for (const buffer of BUFFERS) runs.push(await run(buffer, turns));
console.table(runs);
report("regenerate", { model: "embedded", unit: "tokens of the guard", runs });
await guard.close();
