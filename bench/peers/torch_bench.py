"""PyTorch in bfloat16 on the 0.6B shape, random weights: one token at a time, with a cache or re-running everything.

    python torch_bench.py cached|rerun CONTEXTS STEPS [THREADS]

Prints RESULT and a JSON object: milliseconds a token at each context, milliseconds for whole prompts.
"""

import json
import os
import sys
import time

import torch
from transformers import DynamicCache, Qwen3Config, Qwen3Model

MODE, CONTEXTS, STEPS = sys.argv[1], [int(n) for n in sys.argv[2].split(",")], int(sys.argv[3])
torch.set_num_threads(int(sys.argv[4]) if len(sys.argv) > 4 else os.cpu_count())
torch.manual_seed(0)
CONFIG = Qwen3Config(
    hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128,
    intermediate_size=3072, vocab_size=151936, rms_norm_eps=1e-6, max_position_embeddings=8192,
    tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, attn_implementation="sdpa")


class Guard(torch.nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda a, b: torch.nn.Linear(a, b, bias=False)
        self.model = Qwen3Model(CONFIG)
        self.pre = torch.nn.ModuleList([linear(1024, 512), linear(1024, 512)])
        self.norm = torch.nn.ModuleList([torch.nn.RMSNorm(512, eps=1e-6), torch.nn.RMSNorm(512, eps=1e-6)])
        self.heads = torch.nn.ModuleList([linear(512, n) for n in (3, 8, 3, 9)])

    def forward(self, ids, cache=None):
        hidden = self.model(input_ids=ids, past_key_values=cache, use_cache=cache is not None).last_hidden_state
        inner = [norm(pre(hidden)) for pre, norm in zip(self.pre, self.norm)]
        return [head(inner[i // 2]) for i, head in enumerate(self.heads)]


def summarize(times):
    times = sorted(times)
    at = lambda q: round(times[min(len(times) - 1, int(q * len(times)))], 2)
    return {"n": len(times), "min": at(0), "p50": at(0.5), "p90": at(0.9), "max": at(1)}


def timed(work):
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def tokens(count):
    return torch.randint(0, CONFIG.vocab_size, (1, count))


guard = Guard().to(torch.bfloat16).eval()
per_token, prompts = {}, {}
with torch.inference_mode():
    for context in CONTEXTS:
        if MODE == "rerun":
            guard(tokens(context))
            per_token[context] = summarize([timed(lambda: guard(tokens(context))) for _ in range(5)])
            continue
        cache = DynamicCache(config=CONFIG)
        guard(tokens(context), cache)
        for _ in range(5):
            guard(tokens(1), cache)
        per_token[context] = summarize([timed(lambda: guard(tokens(1), cache)) for _ in range(STEPS)])
    if MODE == "cached":
        for length in (100, 500):
            run = lambda: guard(tokens(length), DynamicCache(config=CONFIG))
            run()
            prompts[length] = summarize([timed(run) for _ in range(5)])
print("RESULT", json.dumps({"perToken": per_token, "promptMs": prompts}))
