/** What others measured and published: the pace at which a response comes to its reader. */
export interface Pace {
  /** Inter-token latency in milliseconds. */
  itlMs: number;
  /** Time to the first token in milliseconds, where the source tells. */
  ttftMs?: number;
  what: string;
  source: string;
}

const QWEN_DOCS = "https://qwen.readthedocs.io/en/latest/getting_started/speed_benchmark.html";
const VLLM_BENCHMARK = "https://buildkite.com/vllm/performance-benchmark/builds/9515";
const VLLM_A100 = "https://gist.github.com/surajssd/eef8ebf83cadd690f6fb4ee87b30fe1a";
/** Quotes medians of Artificial Analysis, read there on 2026-06-24. */
const ARTIFICIAL_ANALYSIS = "https://induwara.lk/tools/ai-llm-speed-comparison";

/** From the fastest to the slowest. Figures given as tokens a second, or for a whole batch, are turned into ITLs here. */
export const PUBLISHED: Record<string, Pace> = {
  "qwen3-0.6b-h20": {
    itlMs: round(1000 / 414.17),
    what: "Qwen3-0.6B, bf16, SGLang, one stream on an H20: 414.17 tokens/s",
    source: QWEN_DOCS,
  },
  "llama3.1-8b-h200": {
    itlMs: round(833.53 / 128),
    what: "Llama 3.1 8B, vLLM, batch of 8 on an H200: median 833.53 ms for 32 tokens in, 128 out",
    source: VLLM_BENCHMARK,
  },
  "gpt-4o": {
    itlMs: round(1000 / 131),
    ttftMs: 450,
    what: "GPT-4o, OpenAI's API: median 131 tokens/s, first token after 0.45 s",
    source: ARTIFICIAL_ANALYSIS,
  },
  "claude-sonnet-4.6": {
    itlMs: round(1000 / 104),
    ttftMs: 740,
    what: "Claude Sonnet 4.6, Anthropic's API: median 104 tokens/s, first token after 0.74 s",
    source: ARTIFICIAL_ANALYSIS,
  },
  "llama3-70b-4xh200": {
    itlMs: round(2077.56 / 128),
    what: "Llama 3 70B, vLLM, batch of 8 on four H200: median 2,077.56 ms for 32 tokens in, 128 out",
    source: VLLM_BENCHMARK,
  },
  "llama3.3-70b-4xa100": {
    itlMs: 43.88,
    ttftMs: 128,
    what: "Llama 3.3 70B, vLLM, four A100, one request a second: median ITL 43.88 ms, median TTFT 128 ms",
    source: VLLM_A100,
  },
};

function round(ms: number): number {
  return Number(ms.toFixed(2));
}
