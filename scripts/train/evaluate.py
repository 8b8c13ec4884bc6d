"""The numbers of the model card: `python scripts/train/evaluate.py --data moderation-train.jsonl.gz --model models/default`."""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tokenizers import Tokenizer

from conversation import Template
from corpus import DATA, read_jsonl, read_rows
from guard import RISKS, load_guard
from samples import turn_of


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
        """[(labels a token, probabilities, ids)] of each (prompt, response)."""
        results = []
        for first in range(0, len(pairs), 256):
            sequences, starts = [], []
            for prompt, response in pairs[first : first + 256]:
                prefix = self.template.prefix([("user", prompt)])
                sequences.append((prefix + self.template.text(response))[: self.longest * 2])
                starts.append(len(prefix))
            for states, sequence, start in zip(self._forward(sequences), sequences, starts, strict=True):
                probabilities = torch.softmax(self.guard.response(states[start:])[0], -1).numpy()
                results.append((probabilities.argmax(-1), probabilities, sequence[start:]))
        return results


def debounced(labels):
    """(risk, index) by the consecutive rule: two unsafe in a row first, else two controversial in a row, else safe."""
    for risk in (1, 2):
        for i in range(1, len(labels)):
            if labels[i - 1] == labels[i] == risk:
                return risk, i
    return 0, None


def flagged_at(labels):
    """First index at which two tokens in a row have the same label that is not safe."""
    return next((i for i in range(1, len(labels)) if labels[i] and labels[i - 1] == labels[i]), None)


def scores(truth, predicted):
    truth, predicted = np.asarray(truth, bool), np.asarray(predicted, bool)
    hit = int((truth & predicted).sum())
    precision, recall = hit / max(predicted.sum(), 1), hit / max(truth.sum(), 1)
    return {
        "n": len(truth),
        "f1": round(2 * precision * recall / max(precision + recall, 1e-9), 4),
        "precision": round(float(precision), 4),
        "recall": round(float(recall), 4),
        "false positive rate": round(float((predicted & ~truth).sum() / max((~truth).sum(), 1)), 4),
    }


def rates(truth, predicted):
    """Share flagged among the benign and among the harmful."""
    benign = [p for t, p in zip(truth, predicted, strict=True) if not t]
    harmful = [p for t, p in zip(truth, predicted, strict=True) if t]
    return {"benign flagged": f"{sum(benign)}/{len(benign)}", "harmful flagged": f"{sum(harmful)}/{len(harmful)}"}


def evaluate(judge, data, verbose):
    report = {}
    rows = [row for row in read_rows(data) if row.held_out]

    # Prompts
    prompts = list({row.prompt: row for row in rows if row.risk is not None and row.source != "hh-rlhf-harmless"}.values())
    guess = judge.prompts([row.prompt for row in prompts]).argmax(-1)
    truth = [row.risk > 0 for row in prompts]
    report["prompts"] = scores(truth, guess > 0)
    report["prompts, controversial counted as safe"] = scores([r.risk == 1 for r in prompts], guess == 1)
    report["prompts by source"] = {}
    for source in sorted({row.source for row in prompts}):
        at = [i for i, row in enumerate(prompts) if row.source == source]
        report["prompts by source"][source] = rates([truth[i] for i in at], [bool(guess[i]) for i in at])
    report["prompts by language"] = {}
    for lang in sorted({row.lang for row in prompts}):
        at = [i for i, row in enumerate(prompts) if row.lang == lang]
        report["prompts by language"][lang] = rates([truth[i] for i in at], [bool(guess[i]) for i in at])
    chat = list({row.prompt: row for row in rows if row.source == "hh-rlhf-harmless" and row.risk is not None}.values())
    if chat:
        guess = judge.prompts([row.prompt for row in chat]).argmax(-1)
        report["people's questions to an assistant"] = scores([r.risk > 0 for r in chat], guess > 0)

    # Responses
    pairs = [row for row in rows if row.response_risk is not None]
    results = judge.responses([(row.prompt, row.response) for row in pairs])
    guess = [debounced(labels)[0] > 0 for labels, _, _ in results]
    truth = [row.response_risk > 0 for row in pairs]
    report["responses"] = scores(truth, guess)
    report["responses by source"] = {}
    for source in sorted({row.source for row in pairs}):
        at = [i for i, row in enumerate(pairs) if row.source == source]
        report["responses by source"][source] = rates([truth[i] for i in at], [guess[i] for i in at])
    # Where in an unsafe response the flag comes: before harm may begin, while it is being said, or later.
    places = defaultdict(int)
    for row, (labels, _, ids) in zip(pairs, results, strict=True):
        if row.response_risk != 1:
            continue
        at = flagged_at(labels)
        start, said = turn_of(row.response)
        char = len(judge.template.tokenizer.decode(ids[: (at or 0) + 1], skip_special_tokens=False))
        places["missed" if at is None else "ahead" if char <= start else "while it is said" if char <= max(said, start + 40) else "later"] += 1
    report["unsafe responses: flag comes"] = dict(places)

    # Contrast set
    contrast = read_jsonl(DATA / "heldout-contrast.jsonl")
    probabilities = judge.prompts([item["prompt"] for item in contrast])
    guess, truth = probabilities.argmax(-1) > 0, [item["label"] != "safe" for item in contrast]
    report["contrast set"] = rates(truth, guess)
    report["contrast set by language"] = {}
    for lang in sorted({item["lang"] for item in contrast}):
        at = [i for i, item in enumerate(contrast) if item["lang"] == lang]
        report["contrast set by language"][lang] = rates([truth[i] for i in at], [bool(guess[i]) for i in at])
    pairs_right = defaultdict(int)
    for item, g, t in zip(contrast, guess, truth, strict=True):
        pairs_right[item["pair"]] += g == t
    report["contrast set: both of a pair right"] = f"{sum(v == 2 for v in pairs_right.values())}/{len(pairs_right)}"
    if verbose:
        for item, g, t, p in zip(contrast, guess, truth, probabilities, strict=True):
            if g != t:
                print(f"  {'missed' if t else 'false alarm'} {p.round(2)}: {item['prompt']}")

    # Hand-written answers with a known turning point
    answers = read_jsonl(DATA / "heldout-answers.jsonl")
    results = judge.responses([(a["prompt"], a["safe"] + a["harmful"]) for a in answers])
    delays, early, missed, alarms, safe, flicker = [], 0, 0, 0, 0, 0
    for item, (labels, probabilities, ids) in zip(answers, results, strict=True):
        turn = len(judge.template.text(item["safe"]))
        at = flagged_at(labels)
        flicker += sum(1 for i in range(1, len(labels)) if (labels[i] > 0) != (labels[i - 1] > 0))
        if not item["harmful"]:
            safe += 1
            alarms += at is not None
        elif at is None:
            missed += 1
        elif at < turn:
            early += 1
        else:
            delays.append(at - turn)
        if verbose:
            words = [judge.template.tokenizer.decode([i], skip_special_tokens=False) for i in ids]
            marks = "".join(f"{'' if not r else '*' if r == 1 else '~'}{w}" for w, r in zip(words, labels, strict=True))
            print(f"  turn {turn if item['harmful'] else '-'} flag {at}: {marks}")
    report["written answers that turn"] = {
        "n": len(answers) - safe,
        "flagged before the turn": early,
        "missed": missed,
        "median tokens from turn to flag": median(delays) if delays else None,
        "90th percentile": int(np.percentile(delays, 90)) if delays else None,
        "changes of verdict a response (1 is ideal)": round(flicker / len(answers), 2),
    }
    report["written safe answers"] = {"n": safe, "flagged": alarms}

    # The same on held-out texts: harmless passage, then a held-out attack
    passages = [row.prompt for row in rows if row.source == "t0" and 200 < len(row.prompt) < 420]
    attacks = [row for row in rows if row.source == "jailbreakbench" and row.response_risk == 1]
    spliced = []
    for i, row in enumerate(attacks):
        lead = re.sub(r"[^.!?]*$", "", passages[i % len(passages)]) or passages[i % len(passages)]
        start, said = turn_of(row.response)
        spliced.append((lead, row.response[start:], said - start))
    results = judge.responses([("Tell me something.", lead + "\n\n" + rest) for lead, rest, _ in spliced])
    early, missed, delays = 0, 0, []
    for (lead, _rest, _said), (labels, _, _) in zip(spliced, results, strict=True):
        at, turn = flagged_at(labels), len(judge.template.text(lead))
        if at is None:
            missed += 1
        elif at < turn:
            early += 1
        else:
            delays.append(at - turn)
    report["held-out passage, then held-out attack"] = {
        "n": len(spliced), "flagged before the turn": early, "missed": missed,
        "median tokens from turn to flag": median(delays) if delays else None,
    }  # fmt: skip
    flags = [flagged_at(labels) is not None for labels, _, _ in judge.responses([("Tell me something.", p) for p in passages])]
    report["held-out passages read as an answer"] = {"n": len(flags), "flagged": sum(flags)}
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default=str(Path(__file__).parents[2] / "models" / "default"))
    parser.add_argument("--verbose", action="store_true", help="show mistakes and each written answer token by token")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    assert RISKS == ["Safe", "Unsafe", "Controversial"]
    report = evaluate(Judge(options.model), options.data, options.verbose)
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
