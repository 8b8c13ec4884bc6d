import { InputError } from "../../errors.js";
import { CONTINUING_SERVERS, type ContinuingServer, REGENERATE_OPTIONS } from "../../gate/attempt.js";
import { checkMode } from "../../gate/gate-options.js";
import { checkOptions, oneOf } from "../../validation/options.js";
import type { ProxyOptions } from "../proxy-options.js";

/** What the mode "regenerate" is not to be had with, and why. */
const NOT_WITH: [keyof ProxyOptions, unknown, string][] = [
  ["scout", true, "it holds text back, and judges it in batches"],
  ["release", "judged", "its buffer says what is released"],
  ["annotations", "azure", "annotations tell of one answer, and here are several"],
];

/** @throws {InputError} OPTION_INVALID */
export function checkProxyMode(options: ProxyOptions): void {
  const { mode, scout } = options;
  if (mode !== "regenerate") {
    checkMode(mode, scout);
    if (options.continue !== undefined) refuse('--continue is for --mode regenerate ("mode": "regenerate").');
    if (options.regenerate !== undefined)
      refuse("Buffer, attempts and intervention are for --mode regenerate.");
    return;
  }
  if (!CONTINUING_SERVERS.includes(options.continue as ContinuingServer)) {
    refuse(
      "--mode regenerate needs a server that goes on with an answer that is not at its end: --continue " +
        `${CONTINUING_SERVERS.join(", --continue ")}. Others answer anew; there, use --mode hold-back.`,
    );
  }
  for (const [name, value, why] of NOT_WITH) {
    if (options[name] === value) refuse(`--mode regenerate does not go with --${name}: ${why}.`);
  }
  const checks = { ...REGENERATE_OPTIONS, intervention: oneOf("resample", "introspection") };
  checkOptions(options.regenerate, "--mode regenerate", checks);
}

function refuse(why: string): never {
  throw new InputError("OPTION_INVALID", why);
}
