// OpenTelemetry: the proxy's spans, sent to a collector. What else the SDK does (metrics, logs, other instruments) is yours to add.
//   npm i qwen3guard-stream @opentelemetry/api @opentelemetry/core @opentelemetry/sdk-trace-base @opentelemetry/exporter-trace-otlp-http
//   OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 \
//     node --import ./otel.mjs node_modules/.bin/qwen3guard proxy --upstream https://api.openai.com
import { propagation, trace } from "@opentelemetry/api";
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const spans = new BatchSpanProcessor(new OTLPTraceExporter());
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [spans] }));

// What the client sends of its trace is read, and goes on to the model's server.
propagation.setGlobalPropagator(
  new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] }),
);

// The proxy ends by itself once all is answered: what is left is sent then.
process.once("beforeExit", () => spans.forceFlush());
