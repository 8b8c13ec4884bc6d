import type { LanguageModelMiddleware } from "ai";

export type GenerateOptions = Parameters<NonNullable<LanguageModelMiddleware["wrapGenerate"]>>[0];
export type StreamOptions = Parameters<NonNullable<LanguageModelMiddleware["wrapStream"]>>[0];
export type GenerateResult = Awaited<ReturnType<GenerateOptions["doGenerate"]>> & {
  /** Of `ai` 7: the text to parse, where that is not all of the content's text. */
  structuredOutputText?: string;
};
export type StreamResult = Awaited<ReturnType<StreamOptions["doStream"]>>;
export type StreamPart = StreamResult["stream"] extends ReadableStream<infer P> ? P : never;
export type Model = StreamOptions["model"];
export type CallOptions = StreamOptions["params"];
export type Content = GenerateResult["content"][number];
export type Usage = GenerateResult["usage"];
export type Metadata = NonNullable<GenerateResult["providerMetadata"]>;

/** The block that a stretch of text belongs to. */
export interface Block {
  channel: "content" | "reasoning";
  id: string;
}

export const FILTERED = { unified: "content-filter" as const, raw: undefined };

/** Of a call that was stopped before the provider told. */
export const NO_USAGE: Usage = {
  inputTokens: { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined },
  outputTokens: { total: undefined, text: undefined, reasoning: undefined },
};

/** What was used, without what the provider adds to it: that may be text. */
export function figures({ inputTokens, outputTokens }: Usage): Usage {
  return { inputTokens, outputTokens };
}
