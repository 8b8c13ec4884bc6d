"""Golden logits: transformers' Qwen3Model and the eight head tensors, run over a checkpoint folder.

    python scripts/golden/logits.py CHECKPOINT test/golden/NAME.json [--dtype bfloat16] [--device cuda]

A checkpoint with a tokenizer is run over a templated conversation, one without over ids from a formula.
"""

import argparse
import glob
import hashlib
import json
import os

import torch
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3Model

MESSAGES = [
    {"role": "system", "content": "You are a careful assistant. Antworte kurz, 请简短回答。"},
    {"role": "user", "content": "How do I kill a Python process that hangs? It's ignoring Ctrl-C 😤"},
    {"role": "assistant", "content": "Try `kill -9 <pid>`."},
    {"role": "user", "content": "And on Windows?"},
]
RESPONSE = (
    "Open Task Manager, find python.exe, and end the task. In a terminal: `taskkill /F /IM python.exe`.\n\n"
    "注意：这会结束所有 Python 进程。Naïve café — 1234567 tokens… done! 👍🏽"
)
FORMULA_LENGTH = 160
HEADS = {"promptRisk": ("query_risk_level_category", "query_risk_level_head"),
         "promptCategory": ("query_risk_level_category", "query_category_head"),
         "responseRisk": ("risk_level_category", "risk_level_head"),
         "responseCategory": ("risk_level_category", "category_head")}


def load(folder, dtype, device):
    raw = json.load(open(os.path.join(folder, "config.json")))
    tensors = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        tensors |= {name: value.to(device, dtype) for name, value in load_file(path).items()}
    config = Qwen3Config(**{k: v for k, v in raw.items() if k != "architectures"})
    config._attn_implementation = "eager"
    model = Qwen3Model(config).to(device).eval()
    for parameter in model.parameters():  # not the buffers: RoPE's frequencies stay float32
        parameter.data = parameter.data.to(dtype)
    backbone = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    model.load_state_dict(backbone, strict=True)
    return raw, model, tensors


def rms_norm(x, weight, eps):
    wide = x.float()
    return (weight.float() * wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def run(raw, model, tensors, ids):
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids], device=model.device)).last_hidden_state[0]
        logits = {}
        for name, (moderator, head) in HEADS.items():
            inner = hidden @ tensors[f"{moderator}_pre.weight"].T
            inner = rms_norm(inner, tensors[f"{moderator}_layernorm.weight"], raw["rms_norm_eps"])
            logits[name] = inner @ tensors[f"{head}.weight"].T
    return logits


def make_ids(folder, vocab_size, given):
    if given:
        return json.load(open(given)), None
    if not os.path.exists(os.path.join(folder, "tokenizer.json")):
        return [(i * i * 31 + i * 7919 + 13) % vocab_size for i in range(FORMULA_LENGTH)], None
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        MESSAGES + [{"role": "assistant", "content": RESPONSE}],
        tokenize=False, add_generation_prompt=False, enable_thinking=False)
    end = text.rindex(RESPONSE) + len(RESPONSE)
    prefix = tokenizer(text[: text.rindex(RESPONSE)])["input_ids"]
    return tokenizer(text[:end])["input_ids"], {
        "messages": MESSAGES, "response": RESPONSE, "prefixLength": len(prefix)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ids", help="JSON list of token ids to run over")
    args = parser.parse_args()
    torch.set_num_threads(2)
    raw, model, tensors = load(args.checkpoint, getattr(torch, args.dtype), args.device)
    ids, conversation = make_ids(args.checkpoint, raw["vocab_size"], args.ids)
    logits = run(raw, model, tensors, ids)
    weights = {
        os.path.basename(path): hashlib.sha256(open(path, "rb").read()).hexdigest()
        for path in sorted(glob.glob(os.path.join(args.checkpoint, "*.safetensors")))
    }
    golden = {"sha256": weights, "ids": ids}
    if conversation:
        golden["conversation"] = conversation
    golden["logits"] = {
        name: [[round(x, 5) for x in row] for row in values.tolist()] for name, values in logits.items()
    }
    os.makedirs(os.path.dirname(args.out), exist_ok=True)
    with open(args.out, "w") as file:
        json.dump(golden, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")
    print(args.out, len(ids), "tokens")


if __name__ == "__main__":
    main()
