/** Formats of the weights that `qwen3guard export --dtype` writes. */
export const DTYPES = ["fp32", "bf16", "fp16", "int8", "w8a8", "int4"] as const;
export type Dtype = (typeof DTYPES)[number];
