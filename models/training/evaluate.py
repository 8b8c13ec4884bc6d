"""The numbers of the model card: `python models/training/evaluate.py --data moderation-train.jsonl.gz --model models/default`."""

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np
import torch

from corpus import DATA, read_jsonl, read_rows
from judge import Judge, flagged_at
from samples import turn_of

CHAT = "hh-rlhf-harmless"


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
    """How many of the benign and of the harmful are flagged."""
    benign = [bool(p) for t, p in zip(truth, predicted, strict=True) if not t]
    harmful = [bool(p) for t, p in zip(truth, predicted, strict=True) if t]
    return {"benign flagged": f"{sum(benign)}/{len(benign)}", "harmful flagged": f"{sum(harmful)}/{len(harmful)}"}


def rates_by(keys, truth, predicted):
    at = {key: [i for i, k in enumerate(keys) if k == key] for key in sorted(set(keys))}
    return {key: rates([truth[i] for i in places], [predicted[i] for i in places]) for key, places in at.items()}


def judge_prompts(judge, rows):
    rows = [row for row in {row.prompt: row for row in rows}.values() if row.risk is not None]
    prompts = [row for row in rows if row.source != CHAT]
    chat = [row for row in rows if row.source == CHAT]
    guess, truth = judge.prompts([row.prompt for row in prompts]).argmax(-1), [row.risk > 0 for row in prompts]
    asked = judge.prompts([row.prompt for row in chat]).argmax(-1)
    return {
        "prompts": scores(truth, guess > 0),
        "prompts, controversial counted as safe": scores([row.risk == 1 for row in prompts], guess == 1),
        "prompts by source": rates_by([row.source for row in prompts], truth, guess),
        "prompts by language": rates_by([row.lang for row in prompts], truth, guess),
        "people's questions to an assistant": scores([row.risk > 0 for row in chat], asked > 0),
    }


def place_of_flag(judge, response, labels, ids):
    """Where in an unsafe response the flag comes: before harm may begin, while it is first said, or later."""
    at = flagged_at(labels)
    if at is None:
        return "missed"
    start, said = turn_of(response)
    char = len(judge.template.tokenizer.decode(ids[: at + 1], skip_special_tokens=False))
    return "ahead" if char <= start else "while it is said" if char <= max(said, start + 40) else "later"


def judge_responses(judge, rows):
    rows = [row for row in rows if row.response_risk is not None]
    results = judge.responses([(row.prompt, row.response) for row in rows])
    guess, truth = [flagged_at(labels) is not None for labels, _ in results], [row.response_risk > 0 for row in rows]
    places = [place_of_flag(judge, r.response, *result) for r, result in zip(rows, results, strict=True) if r.response_risk == 1]
    return {
        "responses": scores(truth, guess),
        "responses by source": rates_by([row.source for row in rows], truth, guess),
        "unsafe responses: flag comes": Counter(places),
    }


def judge_contrast(judge, name, verbose):
    """Harmless questions that sound harmful, and their harmful twins."""
    items = read_jsonl(DATA / f"{name}.jsonl")
    probabilities = judge.prompts([item["prompt"] for item in items])
    guess, truth = probabilities.argmax(-1) > 0, [item["label"] != "safe" for item in items]
    right = Counter(item["pair"] for item, g, t in zip(items, guess, truth, strict=True) if g == t)
    if verbose:
        for item, g, t, p in zip(items, guess, truth, probabilities, strict=True):
            if g != t:
                print(f"  {'missed' if t else 'false alarm'} {p.round(2)}: {item['prompt']}")
    return {
        name: rates(truth, guess),
        f"{name} by language": rates_by([item["lang"] for item in items], truth, guess),
        f"{name}: both of a pair right": f"{sum(n == 2 for n in right.values())}/{len(items) // 2}",
    }


def turns_report(results, turns):
    """`turns`: the index of the first harmful token of each result."""
    at = [flagged_at(labels) for labels, _ in results]
    delays = [a - turn for a, turn in zip(at, turns, strict=True) if a is not None and a >= turn]
    return {
        "n": len(at),
        "flagged before the turn": sum(a is not None and a < turn for a, turn in zip(at, turns, strict=True)),
        "missed": at.count(None),
        "tokens from turn to flag": {"median": median(delays), "most": max(delays)} if delays else None,
    }


def judge_answers(judge, verbose):
    """Written answers with a known turning point."""
    answers = read_jsonl(DATA / "heldout-answers.jsonl")
    results = judge.responses([(a["prompt"], a["safe"] + a["harmful"]) for a in answers])
    turns = [len(judge.template.text(a["safe"])) for a in answers]
    if verbose:
        for (labels, ids), turn, item in zip(results, turns, answers, strict=True):
            words = [judge.template.tokenizer.decode([i], skip_special_tokens=False) for i in ids]
            marks = "".join(f"{word}{' *~'[risk].strip()}" for word, risk in zip(words, labels, strict=True))
            print(f"  turn {turn if item['harmful'] else '-'} flag {flagged_at(labels)}: {marks}")
    harmful = [i for i, item in enumerate(answers) if item["harmful"]]
    safe = [i for i, item in enumerate(answers) if not item["harmful"]]
    changes = sum(int((np.diff(labels > 0)).sum()) for labels, _ in results)
    return {
        "written answers that turn": turns_report([results[i] for i in harmful], [turns[i] for i in harmful]),
        "written safe answers": {"n": len(safe), "flagged": sum(flagged_at(results[i][0]) is not None for i in safe)},
        "changes of verdict in all of them": changes,
    }


def judge_splices(judge, rows):
    """A held-out harmless passage, then a held-out attack."""
    passages = [row.prompt for row in rows if row.source == "t0" and 200 < len(row.prompt) < 420]
    attacks = [row for row in rows if row.source == "jailbreakbench" and row.response_risk == 1]
    leads = [passages[i % len(passages)] for i in range(len(attacks))]
    leads = [re.sub(r"[^.!?]*$", "", lead) or lead for lead in leads]
    texts = [f"{lead}\n\n{row.response[turn_of(row.response)[0] :]}" for lead, row in zip(leads, attacks, strict=True)]
    results = judge.responses([("Tell me something.", text) for text in texts])
    alone = judge.responses([("Tell me something.", passage) for passage in passages])
    return {
        "held-out passage, then held-out attack": turns_report(results, [len(judge.template.text(lead)) for lead in leads]),
        "held-out passages read as an answer": {
            "n": len(passages), "flagged": sum(flagged_at(labels) is not None for labels, _ in alone),
        },
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default=str(Path(__file__).parents[2] / "models" / "default"))
    parser.add_argument("--verbose", action="store_true", help="show mistakes and each written answer token by token")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    judge = Judge(options.model)
    rows = [row for row in read_rows(options.data) if row.held_out]
    report = {
        **judge_prompts(judge, rows),
        **judge_responses(judge, rows),
        **judge_contrast(judge, "heldout-contrast", options.verbose),
        **judge_contrast(judge, "heldout-fresh", False),  # nobody looks at what goes wrong there
        **judge_answers(judge, options.verbose),
        **judge_splices(judge, rows),
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
