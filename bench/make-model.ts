/** Makes the model that benches run, and says where it is: npx tsx bench/make-model.ts [--device cuda] [--dtype bf16] */
import { parseArgs } from "node:util";
import { GUARD_OPTIONS, guardDir } from "./guard.js";

const { values } = parseArgs({ options: GUARD_OPTIONS });
const started = performance.now();
const dir = await guardDir(values);
console.log(`${dir}, in ${((performance.now() - started) / 1000).toFixed(1)} s`);
