"""Tokenizer and chat template: how a conversation becomes ids. Same result as the released template on one pass,
except that control tokens written out in a message stay plain text."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import AddedToken, Regex

# The split pattern and the added tokens of the Qwen3 tokenizer, in its order.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
NOT_SPECIAL = [
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
]  # fmt: skip


def train_tokenizer(texts, vocab_size):
    """Byte-level BPE with `vocab_size` ids in all; the 26 added tokens have the last ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    base = vocab_size - len(SPECIAL) - len(NOT_SPECIAL)
    trainer = trainers.BpeTrainer(
        vocab_size=base,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != base:
        raise SystemExit(f"The corpus yields only {tokenizer.get_vocab_size()} of {base} ids: lower --vocab.")
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in NOT_SPECIAL])
    return tokenizer


def save_tokenizer(tokenizer, qwen_folder, out):
    """tokenizer.json and tokenizer_config.json in Qwen3's own spelling, chat template included. `qwen_folder` holds
    the tokenizer_config.json of Qwen3."""
    layout = json.loads(tokenizer.to_str())
    layout["model"]["continuing_subword_prefix"] = layout["model"]["end_of_word_suffix"] = ""
    layout["decoder"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    (out / "tokenizer.json").write_text(json.dumps(layout, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    config = json.loads((Path(qwen_folder) / "tokenizer_config.json").read_text(encoding="utf-8"))
    keep = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    config["added_tokens_decoder"] = {str(t["id"]): {k: t[k] for k in keep} for t in layout["added_tokens"]}
    config["model_max_length"] = 2048
    (out / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


class Template:
    """Ids of the parts of a templated conversation."""

    def __init__(self, tokenizer):
        tokenizer.encode_special_tokens = True  # written-out control tokens are text
        self.tokenizer = tokenizer
        self.start = tokenizer.token_to_id("<|im_start|>")
        self.end = tokenizer.token_to_id("<|im_end|>")
        self.pad = tokenizer.token_to_id("<|endoftext|>")
        self.newline = self.text("\n")
        self.opening = [self.start, *self.text("assistant\n")]
        self.no_think = [*self.opening, *self.text("<think>\n\n</think>\n\n")]

    def text(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def offsets(self, text):
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, [span[0] for span in encoding.offsets]

    def turn(self, role, content):
        return [self.start, *self.text(f"{role}\n{content}"), self.end]

    def prompt(self, messages):
        """Ids up to and including the `<|im_end|>` that closes the last message."""
        ids = []
        for role, content in messages:
            if ids:
                ids += self.newline
            ids += self.turn(role, content)
        return ids

    def prefix(self, messages, reasoning=False):
        """Ids up to where the response starts."""
        return self.prompt(messages) + self.newline + (self.opening if reasoning else self.no_think)
