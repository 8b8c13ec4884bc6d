"""A trained guard at work: verdicts of prompts and of responses, and the two-token rule."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from conversation import Template
from guard import load_guard


class Judge:
    def __init__(self, folder, longest=1024):
        self.template = Template(Tokenizer.from_file(str(Path(folder) / "tokenizer.json")))
        self.guard = load_guard(folder)
        self.longest = longest

    @torch.no_grad()
    def _forward(self, sequences):
        """Hidden states of many sequences, those of like length together."""
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        hidden, at = [None] * len(sequences), 0
        while at < len(order):
            size = max(1, 8192 // max(1, len(sequences[order[min(at + 31, len(order) - 1)]])))
            group = order[at : at + size]
            length = max(len(sequences[i]) for i in group)
            ids = torch.full((len(group), length), self.template.pad)
            for row, i in enumerate(group):
                ids[row, : len(sequences[i])] = torch.tensor(sequences[i])
            states = self.guard.hidden(ids)
            for row, i in enumerate(group):
                hidden[i] = states[row, : len(sequences[i])]
            at += size
        return hidden

    @torch.no_grad()
    def prompts(self, prompts):
        """Risk probabilities of each prompt, [n, 3]."""
        probabilities = []
        for first in range(0, len(prompts), 512):
            chunk = prompts[first : first + 512]
            sequences = [self.template.prompt([("user", p)]) for p in chunk]
            sequences = [s if len(s) <= self.longest else s[: self.longest - 1] + s[-1:] for s in sequences]
            last = torch.stack([h[-1] for h in self._forward(sequences)])
            probabilities.append(torch.softmax(self.guard.query(last)[0], -1).numpy())
        return np.concatenate(probabilities)

    @torch.no_grad()
    def responses(self, pairs):
        """[(risk labels, ids)], one of each a response token, of each (prompt, response)."""
        results = []
        for first in range(0, len(pairs), 256):
            sequences, starts = [], []
            for prompt, response in pairs[first : first + 256]:
                prefix = self.template.prefix([("user", prompt)])
                sequences.append((prefix + self.template.text(response))[: self.longest * 2])
                starts.append(len(prefix))
            for states, sequence, start in zip(self._forward(sequences), sequences, starts, strict=True):
                results.append((self.guard.response(states[start:])[0].argmax(-1).numpy(), sequence[start:]))
        return results


def flagged_at(labels):
    """First index at which two tokens in a row have the same label that is not safe, or None."""
    return next((i for i in range(1, len(labels)) if labels[i] and labels[i - 1] == labels[i]), None)
