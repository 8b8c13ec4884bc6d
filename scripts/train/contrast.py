"""Questions written for this model: verb x object tables, whole questions, and the frames that people put them in."""

import random
from functools import cache

from corpus import DATA, RISK, Row, read_jsonl

# How people ask. {v} is a verb phrase ("kill a process"), {V} the same with a capital.
FRAMES = {
    "en": [
        "How can I {v}?", "How can I {v}?", "How do I {v}?", "How do I {v}?", "How to {v}?", "how to {v}",
        "how do i {v}", "how can i {v}", "How do you {v}?", "How would I {v}?", "How would someone {v}?",
        "How does one {v}?", "What is the best way to {v}?", "What's the best way to {v}?",
        "What is the easiest way to {v}?", "What's the quickest way to {v}?", "What is the most effective way to {v}?",
        "what's a good way to {v}", "What are some ways to {v}?", "What are the best methods to {v}?",
        "What are some effective ways to {v}?", "What steps do I take to {v}?", "What do I need to {v}?",
        "What tools do I need to {v}?", "Can you teach me how to {v}?", "Can you help me {v}?", "can u help me {v}",
        "Can you tell me how to {v}?", "Could you explain how to {v}?", "Please explain how to {v}.",
        "Explain how to {v}", "Explain how to {v} step by step.", "Describe how to {v}.", "Tell me how to {v}",
        "Show me how to {v}.", "Give me step-by-step instructions to {v}", "Provide instructions on how to {v}",
        "Provide a detailed tutorial on how to {v}", "Write a tutorial on how to {v}", "Write a guide on how to {v}",
        "Write a step-by-step guide on how to {v}", "Write a blog post explaining how to {v}",
        "Give detailed instructions on how to {v}", "Create a plan to {v}", "Teach me to {v}", "I want to {v}.",
        "I want to {v}. How?", "I want to {v}, what should I do?", "I need to {v}. Any tips?", "I need to {v}, help",
        "I'm trying to {v}. What works best?", "I am going to {v} tomorrow. Any advice?", "I'd like to {v}",
        "Is there a way to {v}?", "Is it possible to {v}?", "Is it hard to {v}?", "Any tips to {v}?",
        "Tips for how to {v}", "What's the trick to {v}?", "I've never done it before: how do I {v}?",
        "My friend wants to {v}. How should they go about it?", "Help me {v}", "help me {v} please", "{V}",
        "Hi! How do I {v}?", "hey, quick question, how do i {v}?", "Who can help me {v}?",
        "What is a clever way to {v}?", "Please give me advice on how to {v}", "Do you know how to {v}?",
        "List five ways to {v}.", "I forgot how to {v}. Remind me?", "What should I know before I {v}?",
        "How long does it take to {v}?", "Can I {v} at home?", "How can we {v} as a team?",
    ],
    "zh": [
        "如何{v}？", "怎么{v}？", "怎样{v}？", "我怎么才能{v}？", "我如何{v}？", "请告诉我怎么{v}", "请教我如何{v}。",
        "{v}的最佳方法是什么？", "有哪些{v}的方法？", "我想{v}，该怎么做？", "你能告诉我怎么{v}吗？", "写一份{v}的教程",
        "怎么{v}", "{v}需要哪些步骤？", "请详细说明如何{v}。", "有什么办法可以{v}吗？", "教我{v}", "最简单的{v}的方式是什么？",
        "我应该怎样{v}？", "能帮我{v}吗？",
    ],
    "es": [
        "¿Cómo puedo {v}?", "¿Cómo {v}?", "como {v}", "¿Cuál es la mejor manera de {v}?", "Quiero {v}. ¿Qué hago?",
        "Explícame cómo {v}.", "Dame instrucciones para {v}", "¿Puedes ayudarme a {v}?", "¿Qué necesito para {v}?",
        "Escribe una guía para {v}",
    ],
    "fr": [
        "Comment {v} ?", "Comment puis-je {v} ?", "Quelle est la meilleure façon de {v} ?", "Explique-moi comment {v}.",
        "Je veux {v}, que faire ?", "comment {v}", "Peux-tu m'aider à {v} ?", "Écris un guide pour {v}",
        "Est-il possible de {v} ?", "Donne-moi des conseils pour {v}",
    ],
    "de": [
        "Wie kann ich {v}?", "wie kann man {v}", "Was ist der beste Weg, um zu lernen, wie ich {v} kann?",
        "Kannst du mir erklären, wie ich {v} kann?", "Ich möchte {v}. Was brauche ich?", "Ich will {v}, hilf mir",
        "Schreib eine Anleitung: {v}", "Wie soll ich {v}?", "Muss ich etwas beachten, wenn ich {v} will?",
    ],
    "vi": [
        "Làm thế nào để {v}?", "Làm cách nào tôi có thể {v}?", "Cách tốt nhất để {v} là gì?", "Tôi muốn {v}, phải làm sao?",
        "Hướng dẫn tôi {v}", "Một số cách để {v} là gì?", "Bạn có thể giúp tôi {v} không?", "cách {v}",
        "Các bước để {v} là gì?", "Có cách nào để {v} không?",
    ],
}  # fmt: skip


def framed(rng, lang, phrase):
    frame = rng.choice(FRAMES[lang])
    return frame.format(v=phrase, V=phrase[:1].upper() + phrase[1:])


@cache
def _tables():
    """[(lang, label, category, verb, objects)] of the verb tables."""
    rows = []
    for item in read_jsonl(DATA / "verbs.jsonl"):
        lang = item.get("lang", "en")
        for label in ("safe", "unsafe"):
            if item.get(label):
                rows.append((lang, label, item.get("category"), item["verb"], item[label]))
    return rows


def _row(lang, label, category, prompt, plain=None):
    row = Row("contrast", lang, prompt, RISK[label], None if label == "safe" else category)
    # What the teacher reads: the same question in its plainest frame.
    row.extra["plain"] = plain or prompt
    return row


def framed_rows(seed, per_phrase):
    """Every phrase of the tables in `per_phrase` different frames."""
    rng = random.Random(seed)
    rows = []
    for lang, label, category, verb, objects in _tables():
        for obj in objects:
            phrase = verb.replace("{}", obj) if "{}" in verb else (f"{verb} {obj}" if verb else obj)
            prompts = {framed(rng, lang, phrase) for _ in range(per_phrase)}
            rows += [_row(lang, label, category, prompt, FRAMES[lang][0].format(v=phrase)) for prompt in sorted(prompts)]
    return rows


def written_rows():
    """Whole questions, as written."""
    return [
        _row(q.get("lang", "en"), q["label"], q.get("category"), q["prompt"]) for q in read_jsonl(DATA / "questions.jsonl")
    ]
