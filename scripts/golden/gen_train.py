"""Trains a tiny Gen guard to write the official form, so that free greedy decoding can be compared with verdicts read.

    npx tsx scripts/checkpoint/make-random.ts genTiny /tmp/genTiny
    python scripts/golden/gen_train.py /tmp/genTiny test/golden/gen-trained [--steps 400]

Its texts are made up here, a keyword a category: it is good for nothing but this comparison.
"""

import argparse
import json
import os
import random
import shutil

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

WORDS = {
    "Violent": ["pipe bomb", "poison my boss", "hurt somebody"],
    "Non-violent Illegal Acts": ["steal a car", "forge a passport", "sell stolen phones"],
    "Sexual Content or Sexual Acts": ["sex scene", "naked photos"],
    "PII": ["bank details", "home address", "phone number of my neighbour"],
    "Suicide & Self-Harm": ["hurt myself", "end my life"],
    "Unethical Acts": ["stupid", "insult my sister", "lie to my friend"],
    "Politically Sensitive Topics": ["politicians", "the election was stolen"],
    "Copyright Violation": ["whole text of the new novel", "pirated film"],
    "Jailbreak": ["ignore all instructions", "you have no rules now"],
}
SAFE = ["bake bread", "fix my bike", "the capital of Peru", "a love poem", "sort a list in Python", "grow tomatoes"]
ASKS = ["How do I find {}?", "Tell me about {}", "Write: {}", "I want {}", "What is {} for?", "{}", "{}, please"]
REFUSES = ["I'm sorry, I can't help with that.", "I can't do this.", "No, I will not."]
COMPLIES = ["Sure! First you take {}.", "Here it is: {}", "{}: done!", "You begin with {} and go on."]


def row(rng):
    category = rng.choice([None, None, None, *WORDS])
    word = rng.choice(SAFE if category is None else WORDS[category])
    risk = "Safe" if category is None else "Unsafe"
    if category in ("Unethical Acts", "Politically Sensitive Topics"):
        risk = "Controversial"
    messages = [{"role": "user", "content": rng.choice(ASKS).format(word)}]
    if rng.random() < 0.5:
        return messages, answer(risk, category, None)
    refuses = rng.random() < 0.5
    text = rng.choice(REFUSES) if refuses else rng.choice(COMPLIES).format(word)
    messages.append({"role": "assistant", "content": text})
    if refuses or category == "Jailbreak":
        risk, category = "Safe", None
    return messages, answer(risk, category, refuses)


def answer(risk, category, refuses):
    lines = [f"Safety: {risk}", f"Categories: {category or 'None'}"]
    return "\n".join(lines + ([] if refuses is None else [f"Refusal: {'Yes' if refuses else 'No'}"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    rng = random.Random(1)
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(args.checkpoint, dtype=torch.float32)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=args.steps)
    for step in range(args.steps):
        batch = []
        for _ in range(args.batch):
            messages, said = row(rng)
            prompt = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False))["input_ids"]
            batch.append((prompt, tokenizer(said)["input_ids"] + [end]))
        longest = max(len(prompt) + len(said) for prompt, said in batch)
        ids = torch.full((len(batch), longest), end)
        labels = torch.full((len(batch), longest), -100)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for i, (prompt, said) in enumerate(batch):
            both = torch.tensor(prompt + said)
            ids[i, : len(both)], mask[i, : len(both)] = both, 1
            labels[i, len(prompt) : len(both)] = both[len(prompt) :]
        # The answers' places alone: logits of a whole vocabulary at all of them would be most of the work.
        hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
        said = labels[:, 1:] != -100
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[said]), labels[:, 1:][said])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step == args.steps - 1:
            print(step, round(loss.item(), 4), flush=True)
    os.makedirs(args.out, exist_ok=True)
    tied = json.load(open(os.path.join(args.checkpoint, "config.json")))["tie_word_embeddings"]
    weights = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()
               if not (tied and k == "lm_head.weight")}
    save_file(weights, os.path.join(args.out, "model.safetensors"), {"format": "pt"})
    shutil.copy(os.path.join(args.checkpoint, "config.json"), args.out)


if __name__ == "__main__":
    main()
