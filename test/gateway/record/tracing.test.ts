import { context, propagation, trace } from "@opentelemetry/api";
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from "@opentelemetry/core";
import {
  AlwaysOffSampler,
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  type Sampler,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DeviceError } from "../../../src/errors.js";
import { GuardProxy, type LogEntry, type ProxyOptions } from "../../../src/gateway/proxy.js";
import { ScriptedStream, scriptedGuard } from "../../gate/scripted.js";
import { anAudit } from "../audit/audited.js";
import { chunk, reply, scriptedUpstream, sse } from "../upstream.js";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = "b7ad6b7169203331";
const traceparent = `00-${TRACE}-${PARENT}-01`;
const messages = [{ role: "user", content: "PRIVATE words" }];

let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
let exporter: InMemorySpanExporter;
beforeEach(async () => {
  upstream = await scriptedUpstream();
  upstream.stream(...reply("so ", "far"));
});
afterEach(async () => {
  trace.disable();
  propagation.disable();
  context.disable();
  await upstream.close();
  await expect.poll(() => ScriptedStream.open).toBe(0);
});

/** The SDK, as a process would have it. */
function withSdk(sampler?: Sampler) {
  exporter = new InMemorySpanExporter();
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ sampler, spanProcessors: [new SimpleSpanProcessor(exporter)] }),
  );
  propagation.setGlobalPropagator(
    new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] }),
  );
}

function start(options: Partial<ProxyOptions> = {}, script: Parameters<typeof scriptedGuard>[0] = {}) {
  const log: LogEntry[] = [];
  const { guard } = scriptedGuard(script);
  const proxy = new GuardProxy(guard, {
    upstream: upstream.url,
    log: (entry) => log.push(entry),
    ...options,
  });
  const ask = async (body: object = {}, headers: object = {}, path = "/v1/chat/completions") => {
    const answer = await proxy.fetch(
      new Request(`http://localhost${path}`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-request-id": "r1", ...headers },
        body: JSON.stringify({ model: "m", messages, stream: true, ...body }),
      }),
    );
    const text = await answer.text();
    await expect.poll(() => log.length).toBeGreaterThan(0);
    return text;
  };
  return { ask, log };
}

const only = (): ReadableSpan => {
  const spans = exporter.getFinishedSpans();
  expect(spans).toHaveLength(1);
  return spans[0];
};
const events = ({ events }: ReadableSpan) => events.map(({ name }) => name);

describe("with an SDK", () => {
  test("a request is a span under the client's, and the model's server is asked under that span", async () => {
    withSdk();
    const { ask, log } = start();
    await ask({}, { traceparent, tracestate: "vendor=1", baggage: "team=blue" });
    const span = only();
    expect(span.name).toBe("chat m");
    expect(span.parentSpanContext?.spanId).toBe(PARENT);
    const { traceId, spanId } = span.spanContext();
    expect(traceId).toBe(TRACE);
    expect(log[0].traceId).toBe(TRACE);
    expect(upstream.asked[0].headers).toMatchObject({
      ...{ traceparent: `00-${TRACE}-${spanId}-01`, tracestate: "vendor=1", baggage: "team=blue" },
    });
    expect(span.attributes).toMatchObject({
      ...{ "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.request.stream": true },
      ...{
        "http.request.method": "POST",
        "http.route": "/chat/completions",
        "http.response.status_code": 200,
      },
      ...{ "qwen3guard.request_id": "r1", "qwen3guard.end": "passed", "qwen3guard.response.tokens": 4 },
    });
    expect(events(span)).toEqual(["qwen3guard.prompt.verdict", "qwen3guard.first_release"]);
    expect(span.events[0].attributes).toMatchObject({
      ...{ "qwen3guard.action": "pass", "gen_ai.evaluation.name": "qwen3guard" },
      ...{ "gen_ai.evaluation.score.label": "Safe", "gen_ai.evaluation.score.value": 0.9 },
    });
  });

  test("without a client's trace it begins one", async () => {
    withSdk();
    await start().ask();
    const span = only();
    expect(span.parentSpanContext).toBeUndefined();
    expect(upstream.asked[0].headers.traceparent).toContain(span.spanContext().traceId);
  });

  test("a flag is an event with its rule; what is observed too", async () => {
    withSdk();
    upstream.stream(...reply("so BAD BAD"));
    await start().ask();
    const [, , flag] = only().events;
    expect(flag).toMatchObject({
      name: "qwen3guard.flag",
      attributes: {
        ...{ "gen_ai.evaluation.score.label": "Unsafe", "qwen3guard.part": "response" },
        ...{ "qwen3guard.category": "Violent", "qwen3guard.index": 4, "qwen3guard.rule.debounce": 2 },
      },
    });
    exporter.reset();
    await start({ policy: { action: "observe" } }).ask();
    expect(events(only())).toContain("qwen3guard.observed");
  });

  test("what is dropped of an answer that is gone on with is an event with its attempt", async () => {
    withSdk();
    const texts = ["one two three BAD BAD x", " fine"];
    upstream.answerWith(() => ({ script: reply(...(texts.shift()?.match(/\s*\S+/g) ?? [])).map(sse) }));
    const regenerate = { buffer: 1, intervention: "introspection" } as const;
    await start({ mode: "regenerate", continue: "vllm", regenerate, batch: { tokens: 1, ms: 1 } }).ask();
    expect(events(only())).not.toContain("qwen3guard.flag");
    expect(only().events.find(({ name }) => name === "qwen3guard.dropped")?.attributes).toMatchObject({
      ...{ "qwen3guard.attempt": 0, "qwen3guard.intervention": "introspection" },
      ...{ "qwen3guard.category": "Violent", "qwen3guard.rule.debounce": 2 },
    });
    expect(only().attributes["qwen3guard.regenerations"]).toBe(1);
  });

  test("a failure is an error by its code; a refusal is none", async () => {
    withSdk();
    const failure = new DeviceError("DEVICE_FAILED", "PRIVATE words");
    await start({}, () => ({ promptAfter: Promise.reject(failure) })).ask();
    expect(only()).toMatchObject({ status: { code: 2 }, attributes: { "error.type": "device_failed" } });
    exporter.reset();
    await start().ask({ extra: "x" });
    expect(only()).toMatchObject({ status: { code: 0 }, attributes: { "error.type": "field_unjudged" } });
  });

  test("a trace that is not recorded is passed on all the same", async () => {
    withSdk(new AlwaysOffSampler());
    const { ask, log } = start();
    await ask({}, { traceparent });
    expect(exporter.getFinishedSpans()).toEqual([]);
    expect(upstream.asked[0].headers.traceparent).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-00$`));
    expect(upstream.asked[0].headers.traceparent).not.toContain(PARENT);
    expect(log[0].traceId).toBe(TRACE);
  });

  test("the audit names the trace", async () => {
    withSdk();
    const { audit, lines } = await anAudit();
    await start({ audit }).ask({}, { traceparent });
    expect((await lines()).map(({ traceId }) => traceId)).toEqual([TRACE, TRACE]);
    await audit.close();
  });

  test("whatever a client or a server says, no span holds any of it", async () => {
    withSdk();
    const text = fc.constantFrom("PRIVATE words", "PRIVATE BAD BAD", "BAD");
    const request = fc.record({
      content: text,
      model: text,
      extra: fc.option(text, { nil: undefined }),
      answer: text,
      role: text,
    });
    await fc.assert(
      fc.asyncProperty(request, async ({ content, model, extra, answer, role }) => {
        upstream.stream(chunk({ role, content: answer }), { error: { message: answer, code: answer } });
        exporter.reset();
        const { ask } = start({ policy: { action: "observe" } });
        await ask(
          { model, messages: [{ role: "user", content }], extra },
          { authorization: "PRIVATE words" },
        );
        const { name, attributes, events, status } = only();
        expect(JSON.stringify({ name, attributes, events, status })).not.toContain("PRIVATE");
      }),
      { numRuns: 50 },
    );
  });
});

test("without an SDK a client's trace goes on as it came, and nobody watches", async () => {
  const { ask, log } = start();
  await ask({}, { traceparent, tracestate: "vendor=1", baggage: "team=blue" });
  expect(upstream.asked[0].headers).toMatchObject({
    traceparent,
    tracestate: "vendor=1",
    baggage: "team=blue",
  });
  expect(log[0].traceId).toBeNull();
});
