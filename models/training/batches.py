"""Samples become batches: of like length together, padded on the right."""

import numpy as np
import torch

from samples import IGNORE

STEP = 8  # lengths are multiples of this: every new shape costs the CPU kernels a set-up
CHUNK = 8000  # samples drawn at a time
LONG = 8  # every eighth chunk holds long samples, and a third as many


def grouped(samples, tokens, rng):
    """Groups of samples that fill `tokens` when padded, in random order."""
    order = sorted(samples, key=lambda s: len(s.ids) + rng.random())
    groups, group = [], []
    for sample in order:
        length = -(-len(sample.ids) // STEP) * STEP
        if group and len(group) >= tokens // length:
            groups.append(group)
            group = []
        group.append(sample)
    rng.shuffle(groups)  # the last, unfinished one is left out
    return groups


def collate(group, pad):
    length = -(-max(len(s.ids) for s in group) // STEP) * STEP
    ids = np.full((len(group), length), pad)
    risks = np.full((len(group), length), IGNORE)
    for i, sample in enumerate(group):
        ids[i, : len(sample.ids)] = sample.ids
        risks[i, sample.start : sample.start + len(sample.risks)] = sample.risks
    return {
        "ids": torch.from_numpy(ids),
        "risks": torch.from_numpy(risks),
        "lengths": torch.tensor([len(s.ids) for s in group]),
        "query": torch.tensor([s.query for s in group]),
        "query_risk": torch.tensor([s.query_risk for s in group]),
        "query_category": torch.tensor([s.query_category for s in group]),
        "category": torch.tensor([s.category for s in group]),
        "taught": torch.tensor([s.taught for s in group]),
    }


def stream(mixture, tokens, pad, rng):
    """Batches without end."""
    chunk = 0
    while True:
        chunk += 1
        samples = mixture.draw(CHUNK // 3, 4) if chunk % LONG == 0 else mixture.draw(CHUNK)
        for group in grouped(samples, tokens, rng):
            yield collate(group, pad)
