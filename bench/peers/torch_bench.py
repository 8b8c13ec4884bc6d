"""The guard in PyTorch on the CPU: with a KV cache, or re-running everything for each token.

    python torch_bench.py cached|rerun CONTEXTS PROMPTS STEPS
"""

import json
import os
import sys

import torch

from timing import CONTEXTS, measure, timed
from torch_model import VOCAB, new_guard

torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count())))
guard, _ = new_guard()


def tokens(count):
    return torch.randint(0, VOCAB, (1, count))


with torch.inference_mode():
    if sys.argv[1] == "rerun":
        guard(tokens(CONTEXTS[0]))
        per_token = {c: [timed(lambda: guard(tokens(c))) for _ in range(3)] for c in CONTEXTS}
        print("RESULT", json.dumps({"perToken": per_token, "chunkPerToken": {}, "promptMs": {}}))
    else:
        held = {}

        def reset():
            held["cache"] = guard.backbone.new_cache()

        measure(reset, lambda count, past: guard(tokens(count), held["cache"]))
