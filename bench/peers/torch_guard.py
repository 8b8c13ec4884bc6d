"""A token of the guard in eager PyTorch: with a KV cache, or re-running everything as the released code does. Needs torch.

    python torch_guard.py '{"mode": "cached", "device": "cuda", "contexts": [64, 1024], "budgetMs": 5000,
                            "limitMs": 120000, "threads": 2}'

Prints RESULT and a JSON object: milliseconds a token at each context, and what computed them.
"""

import json
import sys
import time

import torch

from torch_model import VOCAB, new_guard

OPTIONS = json.loads(sys.argv[1])
DEVICE = OPTIONS["device"]
LEAST, MOST = 5, 100


def tokens(count):
    return torch.randint(0, VOCAB, (1, count), device=DEVICE)


def synchronize():
    if DEVICE != "cpu":
        torch.cuda.synchronize()


def timed(work):
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return (time.perf_counter() - start) * 1000


def timed_for_budget(work):
    times = []
    end = time.perf_counter() + OPTIONS["budgetMs"] / 1000
    while len(times) < LEAST or (len(times) < MOST and time.perf_counter() < end):
        times.append(timed(work))
    return summarize(times)


def summarize(times):
    times = sorted(times)
    at = lambda q: round(times[min(len(times) - 1, int(q * len(times)))], 3)
    return {"n": len(times), "min": at(0), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1)}


def step_cost(guard, context):
    """Warms up and returns the work to time, and what one more takes in milliseconds."""
    if OPTIONS["mode"] == "rerun":
        work = lambda: guard(tokens(context))
        return work, timed(work)
    cache = guard.backbone.new_cache()
    guard(tokens(context), cache)
    work = lambda: guard(tokens(1), cache)
    for _ in range(3):
        cost = timed(work)
    return work, cost


def main():
    if DEVICE == "cpu":
        torch.set_num_threads(OPTIONS["threads"])
    guard, implementation = new_guard(DEVICE)
    per_token = {}
    deadline = time.perf_counter() + OPTIONS["limitMs"] / 1000
    spent, previous = 0, None
    with torch.inference_mode():
        for context in OPTIONS["contexts"]:
            # What took this long at the context before takes at least as much more as there are more tokens.
            if previous and time.perf_counter() + spent * (context / previous) > deadline:
                break
            started = time.perf_counter()
            work, cost = step_cost(guard, context)
            spent = time.perf_counter() - started + LEAST * cost / 1000
            per_token[context] = timed_for_budget(work)
            previous = context
    print("RESULT", json.dumps({
        "perToken": per_token, "torch": torch.__version__, "implementation": implementation, "dtype": "bfloat16"}))


main()
