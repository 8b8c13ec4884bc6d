"""Keeps what is written for training away from what was written to be held out: whatever shares most content words with
a question or a clause of it is left out."""

import re
from functools import cache

from corpus import DATA, read_jsonl

# Words of frames, which say nothing about what is asked.
COMMON = set(
    "a an the my your his her our their some any it its me him them us you i we someone somebody how do does did can could "
    "would should will to of in on at for from with without by and or so that this what which who where when why is are be "
    "was were best way good give tell show help explain write want need teach get make no not up out off down as into before "
    "after if there have has".split()
)


def content(text):
    """Stems of its words; pairs of characters where a script has no spaces."""
    if re.search(r"[\u4e00-\u9fff]", text):
        text = re.sub(r"[^\u4e00-\u9fff]|如何|怎么|怎样|我", "", text)
        return {text[i : i + 2] for i in range(len(text) - 1)}
    return {word[:5] for word in re.findall(r"\w+", text.lower()) if word not in COMMON}


def _questions_and_clauses():
    for name in ("heldout-contrast", "heldout-fresh"):
        for item in read_jsonl(DATA / f"{name}.jsonl"):
            yield item["prompt"]
    for item in read_jsonl(DATA / "heldout-answers.jsonl"):
        yield from (clause for clause in re.split(r"[,.;:!?，。；！？]", item["harmful"]) if len(content(clause)) > 2)


@cache
def _held_out():
    """{word: [content of the held-out texts that have it]}."""
    index = {}
    for text in _questions_and_clauses():
        words = frozenset(content(text))
        for word in words:
            index.setdefault(word, []).append(words)
    return index


def near_held_out(text):
    """Whether `text` has two thirds of the content words of a held-out question or clause."""
    words = content(text)
    index = _held_out()
    return any(len(words & other) >= 2 / 3 * len(other) for word in words for other in index.get(word, ()))
