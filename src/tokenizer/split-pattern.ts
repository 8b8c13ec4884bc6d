/** How tokenizer.json of the Qwen family writes its pre-tokenizer's split, one piece a match. */
export const QWEN_SPLIT =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/**
 * The same with its contractions spelled out. The reference implementation folds case as Unicode does, where the
 * long s (U+017F) is an s too; the JavaScript one folds ASCII alone.
 */
export const SPELLED_OUT_SPLIT = QWEN_SPLIT.replace(
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
  "(?:'[sSſ]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
);
