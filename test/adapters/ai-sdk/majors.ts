import * as ai6 from "ai";
import { MockLanguageModelV3 } from "ai/test";
import * as ai7 from "ai-7";
import { MockLanguageModelV4 } from "ai-7/test";
import { guardMiddleware, type MiddlewareOptions } from "../../../src/adapters/ai-sdk.js";
import { scriptedGuard } from "../../gate/scripted.js";

/** The SDK's majors, each with the models of its own; what the tests call of them has the same types. */
export const MAJORS = [
  { major: 6, sdk: ai6, Mock: MockLanguageModelV3 },
  {
    major: 7,
    sdk: ai7 as unknown as typeof ai6,
    Mock: MockLanguageModelV4 as unknown as typeof MockLanguageModelV3,
  },
];

type StreamResult = Awaited<ReturnType<MockLanguageModelV3["doStream"]>>;
export type StreamPart = StreamResult["stream"] extends ReadableStream<infer P> ? P : never;
export type GenerateResult = Awaited<ReturnType<MockLanguageModelV3["doGenerate"]>>;

export const usage = {
  inputTokens: { total: 5, noCache: 5, cacheRead: undefined, cacheWrite: undefined },
  outputTokens: { total: 7, text: 7, reasoning: undefined },
};
export const finish: StreamPart = { type: "finish", finishReason: { unified: "stop", raw: "stop" }, usage };

export function text(id: string, ...deltas: string[]): StreamPart[] {
  return [
    { type: "text-start", id },
    ...deltas.map((delta): StreamPart => ({ type: "text-delta", id, delta })),
    { type: "text-end", id },
  ];
}

export function reasoning(id: string, ...deltas: string[]): StreamPart[] {
  return [
    { type: "reasoning-start", id },
    ...deltas.map((delta): StreamPart => ({ type: "reasoning-delta", id, delta })),
    { type: "reasoning-end", id, providerMetadata: { mock: { signature: "s" } } },
  ];
}

/** Models that say what they are told, behind the middleware and a scripted guard. */
export function models({ Mock, sdk }: Pick<(typeof MAJORS)[number], "Mock" | "sdk">) {
  const { simulateReadableStream, wrapLanguageModel } = sdk;

  function streaming(
    parts: StreamPart[],
    options: MiddlewareOptions = {},
    script: Parameters<typeof scriptedGuard>[0] = {},
  ) {
    const { guard, inputs, streams } = scriptedGuard(script);
    const mock = new Mock({
      doStream: async () => ({
        stream: simulateReadableStream({ chunks: parts, initialDelayInMs: null, chunkDelayInMs: null }),
      }),
    });
    const model = wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard, options) });
    return { model, mock, inputs, streams };
  }

  function generating(
    content: GenerateResult["content"],
    options: MiddlewareOptions = {},
    script: Parameters<typeof scriptedGuard>[0] = {},
  ) {
    const { guard } = scriptedGuard(script);
    const mock = new Mock({
      doGenerate: async () => ({
        content,
        finishReason: { unified: "stop", raw: "stop" },
        usage,
        warnings: [],
      }),
    });
    return { model: wrapLanguageModel({ model: mock, middleware: guardMiddleware(guard, options) }), mock };
  }

  return { generating, streaming };
}
