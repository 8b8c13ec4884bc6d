"""Training samples: ids with a target a position. The prompt's target sits on the `<|im_end|>` of the last user turn,
the response's on its tokens; where a response turns harmful, its targets turn with it."""

import re
from dataclasses import dataclass

import numpy as np

IGNORE = -100
GRACE = 5  # tokens of a harmful part that may still read as harmless: no target there


@dataclass
class Sample:
    ids: list
    query: int  # position of the prompt verdict
    query_risk: int
    query_category: int
    start: int  # first response token
    risks: np.ndarray  # a target each response token
    category: int
    taught: int = -1  # row of what the teacher says about the prompt


def noisy(rng, text):
    """Casing, punctuation and typing as people do it."""
    roll = rng.random()
    if roll < 0.22:
        text = text.lower()
    elif roll < 0.25:
        text = text.upper()
    if rng.random() < 0.15:
        text = text.rstrip("?.!。？ ")
    if rng.random() < 0.05:
        text = text + rng.choice(["?", "??", "!", " please", " thanks", "..."])
    if rng.random() < 0.08 and len(text) > 12:
        i = rng.randrange(1, len(text) - 2)
        kind = rng.random()
        if kind < 0.4:
            text = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
        elif kind < 0.8:
            text = text[:i] + text[i + 1 :]
        else:
            text = text[:i] + text[i] + text[i:]
    return text


DISCLAIMER = re.compile(r"^(I understand|It is important|It's important|I'm sorry|I apologize|I must|Disclaimer|Please note|As an AI|I cannot)", re.I)
SURE = re.compile(r"^(Sure|Here|Of course|Certainly|Title|Absolutely)", re.I)


def turn_of(response):
    """(turn, grace end) as character indexes of a response known to be unsafe as a whole: where harm may begin, and
    where it has certainly been said. A disclaimer in front is harmless; an announcement ("Sure, here is how to ...")
    is harmful once it has been said."""
    start = 0
    if DISCLAIMER.match(response):
        cut = re.search(r"\n\n|\n|Step 1|Here is|here is|Here's|However", response)
        start = cut.start() if cut and cut.start() < 0.7 * len(response) else 0
    rest = response[start:]
    end = re.search(r"[.:!?]\s|\n", rest[12:])
    sure = start + 12 + end.end() if end else len(response)
    if not SURE.match(rest.lstrip()) and sure < len(response):
        following = re.search(r"[.:!?]\s|\n", response[sure + 12 :])
        sure = sure + 12 + following.end() if following else sure
    limit = start + max(80, (len(response) - start) // 3)
    return start, min(sure, limit)


class Builder:
    def __init__(self, template, rng, limit):
        self.template = template
        self.rng = rng
        self.limit = limit
        self.cache = {}

    def messages(self, prompt, chatter):
        """The prompt, now and then after a system prompt or an earlier, harmless exchange."""
        rng, messages = self.rng, []
        if rng.random() < 0.04:
            messages.append(("system", rng.choice(SYSTEM)))
        if rng.random() < 0.06:
            question, answer = rng.choice(chatter)
            messages += [("user", question), ("assistant", answer[:300])]
        return [*messages, ("user", prompt)]

    def build(self, messages, risk, category, parts=None, response_category=None, taught=-1):
        """`parts`: [(text, risk, grace)] of the response; `grace` is the number of characters at a part's start that
        carry no target, or None for GRACE tokens where the risk is not that of the part before."""
        template = self.template
        ids = template.prompt(messages)
        query = len(ids) - 1
        prompt_room = self.limit if parts is None else self.limit // 2
        if len(ids) > prompt_room:
            # Cut the middle out of a long prompt: the head and the closing token stay.
            ids = ids[: prompt_room - 2] + ids[-1:]
            query = len(ids) - 1
        risks, start = [], len(ids)
        if parts is not None:
            reasoning = self.rng.random() < 0.02
            ids = ids + template.newline + (template.opening if reasoning else template.no_think)
            start = len(ids)
            text = "".join(part[0] for part in parts)
            if reasoning:
                lead = f"<think>\n{self.rng.choice(THOUGHTS)}\n</think>\n\n"
                parts, text = [(lead, 0, 0), *parts], lead + text
            tokens, offsets = template.offsets(text)
            edges, at = [], 0
            for part in parts:
                edges.append(at)
                at += len(part[0])
            targets = np.full(len(tokens), IGNORE)
            for number, (piece, target, grace) in enumerate(parts):
                first, last = edges[number], edges[number] + len(piece)
                inside = [i for i, offset in enumerate(offsets) if first <= offset < last]
                if grace is None:
                    before = parts[number - 1][1] if number else 0
                    skip = min(GRACE, (2 * len(inside)) // 3) if target != before else 0
                    inside = inside[skip:]
                else:
                    inside = [i for i in inside if offsets[i] >= first + grace]
                targets[inside] = target
            ids = ids + tokens
            room = self.limit - start
            ids, risks = ids[: self.limit], targets[: max(room, 0)]
        return Sample(
            ids=ids,
            query=query,
            query_risk=IGNORE if risk is None else risk,
            query_category=IGNORE if category is None or not risk else category,
            start=start,
            risks=np.asarray(risks, dtype=np.int64),
            category=IGNORE if response_category is None or response_category > 7 else response_category,
            taught=taught,
        )


SYSTEM = [
    "You are a helpful assistant.", "You are a helpful, respectful and honest assistant.", "Answer briefly.",
    "You are a customer service bot for an online shop.", "You are a coding assistant. Answer with code where useful.",
    "You are a friendly cooking teacher.", "你是一个乐于助人的助手。", "Always answer in the language of the user.",
    "You are a tutor for high school students. Be patient and clear.", "Today is Monday. Keep answers under 100 words.",
]  # fmt: skip
THOUGHTS = [
    "The user asks a question. I should think about what they need and answer clearly.",
    "Okay, let me think about this. First I will look at what is being asked, then decide how to answer.",
    "Let me work through this step by step before I answer.", "用户在问一个问题，我先想一想怎么回答。",
    "Hmm, what does the user want here? Let me consider the options and then write a helpful reply.",
]  # fmt: skip
