import type { MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import { RequestError } from "../api-error.js";
import { isLoopbackName } from "./loopback.js";

export interface AccessOptions {
  /** Names that a request's Host may have besides those of this machine's loopback; "*": any. */
  allowHosts?: readonly string[];
  /** Origins of web pages that may ask, besides those on this machine's loopback; "*": any. */
  allowOrigins?: readonly string[];
}

/**
 * Keeps web pages of others away from a proxy that has no users of its own: a page may send a browser to any address
 * (its Origin tells), or give a name of its own to this one (its Host tells). What a page may read is said here alone.
 */
export function access({ allowHosts = [], allowOrigins = [] }: AccessOptions): MiddlewareHandler {
  const hosts = allowHosts.map((name) => name.toLowerCase());
  const origins = allowOrigins.map((origin) => origin.toLowerCase().replace(/\/+$/, ""));
  const isAllowed = (origin: string): boolean =>
    origins.includes("*") || origins.includes(origin) || isLoopback(origin);
  const answer = cors({
    origin: (origin) => (origin !== "" && isAllowed(origin) ? origin : null),
    allowMethods: ["GET", "HEAD", "POST", "DELETE"],
    exposeHeaders: ["retry-after", "x-request-id"],
    maxAge: 600,
  });
  return async (c, next) => {
    const { username, password, hostname } = new URL(c.req.url);
    if (username !== "" || password !== "") {
      throw new RequestError(
        400,
        "target_invalid",
        "The request's target must not hold a name or a password.",
      );
    }
    const names = [hostname, hostnameOf(c.req.header("host") ?? hostname)];
    if (!hosts.includes("*") && !names.every((name) => isLoopbackName(name) || hosts.includes(name))) {
      const message = "The request's Host is not one that this server answers to. Open it with --allow-host.";
      throw new RequestError(403, "host_refused", message);
    }
    const origin = c.req.header("origin");
    if (origin !== undefined && !isAllowed(origin)) {
      const message = "Web pages of this Origin may not ask this server. Open it with --allow-origin.";
      throw new RequestError(403, "origin_refused", message);
    }
    return origin === undefined ? next() : answer(c, next);
  };
}

function hostnameOf(host: string): string {
  return URL.canParse(`http://${host}`) ? new URL(`http://${host}`).hostname : "";
}

function isLoopback(origin: string): boolean {
  return /^https?:/.test(origin) && URL.canParse(origin) && isLoopbackName(new URL(origin).hostname);
}
