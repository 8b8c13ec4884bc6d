"""What training minimizes: the verdicts, and two helpers that the finished model does not keep."""

import torch
from torch import nn

from samples import IGNORE

LANGUAGE = 4  # one position of so many predicts the next token
SAFE = 2.2  # a false alarm stops an answer, a miss is made good a token later: safe tokens weigh more


def cross_entropy(logits, targets, smoothing=0.0):
    if not (targets != IGNORE).any():
        return logits.sum() * 0
    return nn.functional.cross_entropy(logits.float(), targets, ignore_index=IGNORE, label_smoothing=smoothing)


def query_loss(risk, category, batch):
    """At the `<|im_end|>` that closes the prompt."""
    return cross_entropy(risk, batch["query_risk"], 0.03) + 0.3 * cross_entropy(category, batch["query_category"], 0.03)


def teacher_loss(lesson, closing, risk, row):
    """Distance from the embeddings and the verdicts of the teacher, for the prompts that it has read."""
    taught = row >= 0
    if not taught.any():
        return closing.sum() * 0
    row = row[taught]
    read = lesson["reader"](closing)[taught].float()
    embedding = 1 - nn.functional.cosine_similarity(read, lesson["embeddings"][row], dim=-1).mean()
    return embedding + nn.functional.cross_entropy(risk[taught].float(), lesson["risks"][row])


def response_loss(guard, hidden, batch):
    """A response's tokens weigh as the inverse root of their number, the whole batch together one."""
    risks = batch["risks"]
    known = risks != IGNORE
    if not known.any():
        return hidden.sum() * 0
    # All positions, known or not: every new shape costs the CPU kernels a set-up.
    risk, category = (logits[known] for logits in guard.response(hidden))
    each = nn.functional.cross_entropy(risk.float(), risks[known], reduction="none", label_smoothing=0.03)
    weights = (known / known.sum(1, keepdim=True).clamp(min=1).sqrt())[known]
    weights = weights * torch.where(risks[known] == 0, SAFE, 1.0)
    categories = torch.where(risks > 0, batch["category"][:, None], IGNORE)[known]
    return (each * weights).sum() / weights.sum() + 0.2 * cross_entropy(category, categories)


def language_loss(guard, hidden, batch, generator):
    """Next-token prediction at random positions."""
    inside = torch.arange(hidden.shape[1] - 1)[None] < batch["lengths"][:, None] - 1
    places = inside.nonzero()
    row, column = places[torch.randint(len(places), (batch["ids"].numel() // LANGUAGE,), generator=generator)].T
    logits = hidden[row, column] @ guard.model.embed_tokens.weight.T
    return nn.functional.cross_entropy(logits.float(), batch["ids"][row, column + 1])


def losses(guard, lesson, batch, dropout, generator):
    hidden = guard.hidden(batch["ids"], dropout)
    closing = hidden[torch.arange(len(hidden)), batch["query"]]
    risk, category = guard.query(closing)
    return {
        "query": query_loss(risk, category, batch),
        "response": response_loss(guard, hidden, batch),
        "teacher": teacher_loss(lesson, closing, risk, batch["taught"]),
        "language": language_loss(guard, hidden, batch, generator),
    }
