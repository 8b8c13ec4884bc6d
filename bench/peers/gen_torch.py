"""A Gen guard's verdicts as its card has them written: transformers' generate, bf16, greedy, on the CPU.

    python gen_torch.py CHECKPOINT QUESTIONS.json

Of each question, ids and how many tokens the answer takes, the milliseconds.
"""

import json
import os
import sys
import time

import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count())))
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16).eval()


def answer(ids, count):
    prompt = torch.tensor([ids])
    model.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count, min_new_tokens=count,
        do_sample=False, pad_token_id=151643)


with open(sys.argv[2]) as file:
    questions = json.load(file)
found = {}
for name, asked in questions.items():
    answer(asked[0]["ids"], 2)
    found[name] = []
    for question in asked:
        started = time.perf_counter()
        answer(question["ids"], question["answer"])
        found[name].append((time.perf_counter() - started) * 1000)
print("RESULT", json.dumps(found))
