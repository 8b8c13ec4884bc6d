"""The work every contender does, and how it is timed: see bench/contenders.ts."""

import json
import sys
import time

CONTEXTS, PROMPTS, STEPS = ([int(n) for n in arg.split(",") if n] for arg in sys.argv[2:5])
STEPS = STEPS[0]
WARMUP = 5
CHUNK = 16
CHUNK_CONTEXT = 100


def timed(work):
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def measure(reset, run, chunks=True):
    """Times one token at each context, chunks of 16 and whole prompts. `run(n, past)` feeds n random tokens to a
    sequence that holds `past`; `reset()` empties it. Prints RESULT and a JSON object of lists of milliseconds."""
    per_token, chunk, prompts = {}, [], {}
    for context in CONTEXTS:
        reset()
        run(context, 0)
        for i in range(WARMUP):
            run(1, context + i)
        per_token[context] = [timed(lambda: run(1, context + WARMUP + i)) for i in range(STEPS)]
    if chunks:
        reset()
        run(CHUNK_CONTEXT, 0)
        past = CHUNK_CONTEXT
        for i in range(12):
            spent = timed(lambda: run(CHUNK, past))
            past += CHUNK
            if i >= 2:
                chunk.append(spent / CHUNK)
    for length in PROMPTS:
        for i in range(4):
            reset()
            spent = timed(lambda: run(length, 0))
            if i:
                prompts.setdefault(length, []).append(spent)
    print("RESULT", json.dumps({"perToken": per_token, "chunkPerToken": {CHUNK: chunk} if chunk else {}, "promptMs": prompts}))
