import type { OpenFields } from "./open-fields.js";

/** Headers that tell of the request and its limits. Others might hold text, or are the proxy's own to set. */
const NAMES =
  /^(x-)?request-id$|^(x-)?ratelimit-|^retry-after(-ms)?$|^x-should-retry$|^openai-|^anthropic-|^azureml-|^apim-request-id$|^x-ms-|^date$|^server-timing$|^cf-ray$|^x-accel-buffering$/;
const LONGEST = 256;

/** The headers of a server's judged answer that go on to the client. */
export function answerHeaders(headers: Headers, open: OpenFields): Headers {
  const passed = new Headers();
  for (const [name, value] of headers) {
    if (open.named(name) || (NAMES.test(name) && value.length <= LONGEST)) passed.append(name, value);
  }
  return passed;
}
