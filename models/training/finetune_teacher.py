"""What the small model imitates: the teacher's embeddings and verdicts, after it has learnt the labelled questions."""

import hashlib
import json
import random
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from teacher import Teacher
from workers import share_gradients

BATCH = 64  # of all workers together
RATE = 1e-4
WARMUP = 50


def _batches(examples, rng):
    """Of like length together."""
    batches = []
    for first in range(0, len(examples), 50 * BATCH):
        chunk = sorted(examples[first : first + 50 * BATCH], key=lambda example: len(example[0]))
        batches += [chunk[i : i + BATCH] for i in range(0, len(chunk), BATCH)]
    rng.shuffle(batches)
    return batches


def _tune(teacher, examples, seed):
    """Once through `examples`; word vectors stay as they are."""
    teacher.train()
    teacher.encoder.embeddings.requires_grad_(False)
    torch.manual_seed(seed + dist.get_rank())
    groups = [{"params": teacher.encoder.encoder.parameters(), "scale": RATE}, {"params": teacher.risk.parameters(), "scale": 10 * RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    batches, mean = _batches(examples, random.Random(seed)), 0
    for step, batch in enumerate(batches):
        texts, risks = zip(*batch[dist.get_rank() :: dist.get_world_size()], strict=True)
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * min((step + 1) / WARMUP, 1 - step / len(batches))
        loss = nn.functional.cross_entropy(teacher(list(texts))[1], torch.tensor(risks), label_smoothing=0.03)
        loss.backward()
        share_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        mean = 0.98 * mean + 0.02 * loss.item() if step else loss.item()
        if dist.get_rank() == 0 and (step + 1) % 100 == 0:
            print(f"teacher {step + 1}/{len(batches)} {mean:.3f}", flush=True)
    teacher.eval()


def tuned_teacher(examples, seed, folder):
    """A teacher fine-tuned on `examples`, [(question, risk)]; kept in `folder`."""
    torch.manual_seed(seed)
    teacher = Teacher()
    key = hashlib.sha256(json.dumps([examples, seed]).encode()).hexdigest()[:16]
    path = Path(folder) / f"teacher-{key}.pt"
    if path.exists():
        teacher.load_state_dict(torch.load(path))
    else:
        _tune(teacher, examples, seed)
        if dist.get_rank() == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(teacher.state_dict(), path)
    return teacher


def read_together(teacher, texts):
    """(embeddings, risk probabilities) of `texts`, every worker asking about its share."""
    rows = torch.zeros(len(texts), Teacher.size + 3)
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    rows[mine] = torch.cat(teacher.read(texts[mine]), 1)
    dist.all_reduce(rows)
    return rows.split([Teacher.size, 3], 1)
