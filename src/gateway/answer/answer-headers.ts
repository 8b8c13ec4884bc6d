import type { OpenFields } from "./open-fields.js";

/** Headers that tell of the request and its limits. Others might hold text, or are the proxy's own to set. */
const NAMES =
  /^(x-)?request-id$|^(x-)?ratelimit-|^retry-after(-ms)?$|^x-should-retry$|^openai-|^anthropic-|^azureml-|^apim-request-id$|^x-ms-|^date$|^server-timing$|^cf-ray$|^x-accel-buffering$/;
const LONGEST = 256;
/** Up to four words, or a time. More of them may be what a model said. */
const VALUE = /^[!-~]*( [!-~]+){0,3}$|^\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT$/;

/** The headers of a server's judged answer that go on to the client. */
export function answerHeaders(headers: Headers, open: OpenFields): Headers {
  const passed = new Headers();
  for (const [name, value] of headers) {
    const passes = NAMES.test(name) && value.length <= LONGEST && VALUE.test(value);
    if (passes || open.named(name)) passed.append(name, value);
  }
  return passed;
}
