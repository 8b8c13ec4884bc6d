"""PyTorch in bfloat16 on the 0.6B shape, random weights: with a KV cache, or re-running everything for each token.

    python torch_bench.py cached|rerun CONTEXTS PROMPTS STEPS
"""

import json
import os
import sys

import torch
from transformers import DynamicCache, Qwen3Config, Qwen3Model

from timing import CONTEXTS, measure, timed

torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count())))
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


def tokens(count):
    return torch.randint(0, CONFIG.vocab_size, (1, count))


guard = Guard().to(torch.bfloat16).eval()
with torch.inference_mode():
    if sys.argv[1] == "rerun":
        guard(tokens(CONTEXTS[0]))
        per_token = {c: [timed(lambda: guard(tokens(c))) for _ in range(3)] for c in CONTEXTS}
        print("RESULT", json.dumps({"perToken": per_token, "chunkPerToken": {}, "promptMs": {}}))
    else:
        held = {}

        def reset():
            held["cache"] = DynamicCache(config=CONFIG)

        measure(reset, lambda count, past: guard(tokens(count), held["cache"]))
