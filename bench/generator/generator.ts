/** A model that writes responses a token at a time. */
export interface Generator {
  readonly name: string;
  /** What a reader of the results has to know about it. */
  readonly about: Record<string, unknown>;
  /** One response from the beginning, its prompt included; ids of Qwen3's tokenizer, or text. */
  respond(tokens: number, signal: AbortSignal): AsyncIterable<number | string>;
  close(): Promise<void>;
}
