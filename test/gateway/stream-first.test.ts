import { expect, test } from "vitest";
import { deferred } from "../../src/moderation/deferred.js";
import { PROTOCOLS, type Protocol } from "./protocols.js";
import { serving } from "./serving.js";

const proxied = serving();
const protocols = PROTOCOLS.map((protocol) => [protocol.path, protocol] as const);
/** How an answer says that it came to its own end. */
const OWN_END = /"finish_reason":"stop"|"done_reason":"stop"|"end_turn"|"response\.completed"/;
const FLAGGED_END =
  /"finish_reason":"content_filter"|"done_reason":"content_filter"|"refusal"|"response\.incomplete"/;

/** What a client gets of an answer whose text it has long before the guard judges any of it. */
async function sent({ path, request, stream, contentType }: Protocol, texts: string[]): Promise<string> {
  const judging = deferred<void>();
  const beforePush = () => judging.promise;
  const { url } = await proxied.start({ mode: "stream-first" }, { beforePush });
  proxied.upstream.answerWith(() => ({ type: contentType, script: stream(texts) }));
  const response = await fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request("Hi", true)),
  });
  let text = "";
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    text += new TextDecoder().decode(chunk);
    if (!text.includes(texts.at(-1) as string)) continue;
    // What comes after the last text has come to the proxy by now.
    setTimeout(() => judging.resolve(), 50);
  }
  return text;
}

test.each(protocols)(
  "%s: how a streamed answer ended is told once it is judged, though its text went ahead",
  async (_, protocol) => {
    const text = await sent(protocol, ["so ", "far ", "BAD ", "BAD ", "end"]);
    expect(protocol.read(text).text).toBe("so far BAD BAD end");
    expect(text).not.toMatch(OWN_END);
    expect(text).toMatch(FLAGGED_END);
  },
);

test.each(protocols)("%s: a clear one ends as it did", async (_, protocol) => {
  const text = await sent(protocol, ["so ", "far ", "so ", "good"]);
  expect(text).toMatch(OWN_END);
  expect(text).not.toMatch(FLAGGED_END);
  expect(protocol.read(text)).toEqual({ text: "so far so good", failed: false });
});
