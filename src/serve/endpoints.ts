import type { Env, Hono } from "hono";
import { RequestError } from "../gateway/api-error.js";

export const CHAT = "/v1/chat/completions";
export const MODERATIONS = "/v1/moderations";
export const CLASSIFY = "/v1/classify";
export const STREAMS = "/v1/streams";
/** Where LiteLLM's generic guardrail API asks. */
export const GUARDRAIL = "/beta/litellm_basic_guardrail_api";

const ENDPOINTS = [
  CHAT,
  MODERATIONS,
  CLASSIFY,
  "/v1/models",
  STREAMS,
  GUARDRAIL,
  "/livez",
  "/healthz",
  "/metrics",
];

/** A name for logs and metrics: the client's path, which may hold a stream's id, stands in neither. */
export function endpointOf(path: string): string {
  return ENDPOINTS.find((endpoint) => path === endpoint || path.startsWith(`${endpoint}/`)) ?? "other";
}

const NOT_HERE = `This service has ${[CHAT, MODERATIONS, CLASSIFY, STREAMS].join(", ")}, /v1/models and ${GUARDRAIL}.`;

/** Says of all that no route took why not. */
export function refuseOthers<E extends Env>(app: Hono<E>): void {
  for (const path of [CHAT, MODERATIONS, CLASSIFY, GUARDRAIL]) {
    app.all(path, () => {
      throw new RequestError(405, "method_refused", "This path takes POST alone.");
    });
  }
  app.all("*", () => {
    throw new RequestError(404, "path_unknown", NOT_HERE);
  });
}
