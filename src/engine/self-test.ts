import { ClosedError, ModelError, NumericError } from "../errors.js";
import type { Manifest } from "../model/manifest.js";
import {
  cut,
  expectedLogits,
  logitDistance,
  type SelfTest,
  testedColumns,
  testedPositions,
  tolerance,
} from "../model/self-test.js";
import type { Sequence } from "./sequence.js";

/**
 * Runs the conversation that guard.json keeps, in a prompt, a chunk and single tokens, and holds the logits against what
 * the checkpoint gives: whatever is wrong with weights, graph, kernels or device shows here, before anybody relies on a
 * verdict. It leaves the kernels warm.
 *
 * @throws {ModelError} SELF_TEST_FAILED
 */
export async function runSelfTest(
  manifest: Manifest,
  selfTest: SelfTest,
  sequence: Sequence,
  dir: string,
): Promise<void> {
  const { outputs } = manifest;
  const tokens = Math.min(selfTest.ids.length, sequence.limits.maxTokens);
  const tested = outputs.map((output) => ({
    ...output,
    positions: testedPositions(output, selfTest.ids.length),
    columns: testedColumns(output),
    found: [] as number[],
    compared: [] as number[],
  }));
  const failed = (how: string, cause?: unknown) =>
    new ModelError(
      "SELF_TEST_FAILED",
      `The model in ${dir} does not say what its checkpoint says: of a conversation of ${tokens} tokens ${how}. ` +
        "Its verdicts would mean nothing. Export the checkpoint again, with --dtype fp32 or int8 if this is no fp32 model.",
      { cause },
    );
  let at = 0;
  for (const run of cut(selfTest.runs, tokens)) {
    const last = at + run - 1;
    const fed = sequence.feed(selfTest.ids.slice(at, at + run), (logits, index, position, ending) => {
      for (const { name, width, position: given, positions, columns, found, compared } of tested) {
        const place = positions.indexOf(position);
        if (place === -1 || (given !== "each" && position !== last)) continue;
        const from = (given === "each" ? index : ending) * width;
        for (const column of columns) found.push(logits[name][from + column]);
        compared.push(place);
      }
    });
    await fed.catch((error) => {
      throw error instanceof NumericError ? failed("its logits are not finite", error) : error;
    });
    at += run;
  }
  sequence.close(new ClosedError("STREAM_CLOSED", "The self-test is done."));
  const limit = tolerance(manifest);
  for (const { name, columns, found, compared } of tested) {
    const all = expectedLogits(selfTest, name);
    const width = columns.length;
    const expected = compared.flatMap((place) => [...all.subarray(place * width, (place + 1) * width)]);
    const distance = logitDistance(Float32Array.from(found), Float32Array.from(expected), width);
    if (distance <= limit) continue;
    throw failed(
      `${name} is ${distance.toPrecision(3)} away, and ${limit} is allowed for ${describe(manifest)}`,
    );
  }
}

function describe({ dtype, kvCache }: Manifest): string {
  return kvCache === "int8" ? `${dtype} with an int8 cache` : dtype;
}
