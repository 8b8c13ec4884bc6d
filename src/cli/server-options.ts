import { Option } from "commander";
import { isLoopbackName } from "../gateway/access/loopback.js";
import { whole } from "./numbers.js";

export function portOption(usual: number): Option {
  return new Option("--port <port>", "where to listen").default(usual).argParser(whole(0, 65535));
}

export function hostOption(): Option {
  return new Option("--host <address>", "address to listen on; 0.0.0.0 for all").default("127.0.0.1");
}

/** Who may ask: `allowHost`, `allowOrigin`. */
export function accessOptions(): Option[] {
  return [
    several("--allow-host <name>", "answers to this Host too, not to loopback's alone; * for any"),
    several("--allow-origin <origin>", "lets web pages of this origin ask; * for all"),
  ];
}

/** On an address that others reach, names of it cannot be known: those that are given count, else all. */
export function hostsOf({ host, allowHost }: { host: string; allowHost: string[] }): string[] {
  return allowHost.length > 0 || isLoopbackName(host) ? allowHost : ["*"];
}

/** Seconds. */
export function timeoutOption(): Option {
  return new Option("--timeout <seconds>", "a request may take").default(600).argParser(whole(1, 86_400));
}

/** Seconds. */
export function graceOption(): Option {
  return new Option("--grace <seconds>", "for what is under way, at SIGTERM")
    .default(30)
    .argParser(whole(0, 3600));
}

/** An option that may be given several times. */
export function several(flags: string, description: string): Option {
  return new Option(flags, `${description} (repeatable)`)
    .default([], "none")
    .argParser((value: string, before: string[]) => [...before, value]);
}
