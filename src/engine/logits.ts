/** The heads' logits of one step, float32, each [rows · length, labels] in row-major order. */
export interface Logits {
  promptRisk: Float32Array;
  promptCategory: Float32Array;
  responseRisk: Float32Array;
  responseCategory: Float32Array;
}

/** Label counts: the last dimension of each head's logits. */
export type HeadWidths = Record<keyof Logits, number>;

/** The heads' names in the graph. */
export const HEADS: Record<keyof Logits, string> = {
  promptRisk: "prompt_risk",
  promptCategory: "prompt_category",
  responseRisk: "response_risk",
  responseCategory: "response_category",
};

export const HEAD_NAMES = Object.keys(HEADS) as (keyof Logits)[];

/** Whether every logit of one token is a finite number. `index` counts tokens in the step. */
export function areFinite(logits: Logits, widths: HeadWidths, index: number): boolean {
  for (const head of HEAD_NAMES) {
    const width = widths[head];
    for (let i = index * width; i < (index + 1) * width; i++) {
      if (!Number.isFinite(logits[head][i])) return false;
    }
  }
  return true;
}
