/** What may arrive on standard input. */
export const INPUT_KINDS = ["text", "ids", "sse", "jsonl", "ollama"] as const;

export type InputKind = (typeof INPUT_KINDS)[number];
