export const STREAMS = "/v1/streams";
/** Where LiteLLM's generic guardrail API asks. */
export const GUARDRAIL = "/beta/litellm_basic_guardrail_api";

const ENDPOINTS = [
  "/v1/chat/completions",
  "/v1/moderations",
  "/v1/classify",
  "/v1/models",
  STREAMS,
  GUARDRAIL,
  "/healthz",
  "/metrics",
];

/** A name for logs and metrics: the client's path, which may hold a stream's id, stands in neither. */
export function endpointOf(path: string): string {
  return ENDPOINTS.find((endpoint) => path === endpoint || path.startsWith(`${endpoint}/`)) ?? "other";
}
