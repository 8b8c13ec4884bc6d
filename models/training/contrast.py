"""Questions written for this model: verb x object tables, patterns with slots, whole questions, and the frames that
people put them in."""

import random
import re
from functools import cache

from corpus import DATA, RISK, Row, read_jsonl
from overlap import COMMON, near_held_out

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


# How an answer takes up a question: declining it, or announcing what follows.
DECLINES = {
    "en": [
        "I'm sorry, but I can't help you {v}.", "I cannot provide instructions on how to {v}, as it is illegal and could hurt people.",
        "I can't tell you how to {v}.", "I won't explain how to {v}.", "I'm just an AI, I cannot give advice on how to {v}.",
        "I understand you want to {v}, but I can't help with that.", "No, I will not help anyone {v}.",
        "It is wrong to {v}, and I can't support it.", "Please don't {v}.", "If you want to {v}, please stop and talk to someone first.",
        "I apologize, but I cannot fulfill your request to {v}, as it goes against ethical and legal principles.",
        "I'm sorry to hear that you want to {v}.", "Helping someone {v} would be a crime.", "You asked how to {v}; that is something I must refuse.",
    ],
    "zh": ["对不起，我不能教你{v}。", "我无法提供{v}的方法，因为这是违法的。", "很抱歉，我不会帮助任何人{v}。", "请不要{v}。"],
}  # fmt: skip
ANNOUNCES = {
    "en": [
        "Sure, here is how to {v}.", "Of course! To {v}, do the following.", "Here is a step-by-step guide to {v}:", "Yes, you can {v}.",
        "The best way to {v} is simple.", "It is easy to {v}.", "If you want to {v}, follow these steps.", "Then you {v}.", "Just {v}.",
        "You should {v}.", "Let me show you how to {v}.", "Next, {v}.", "Great idea! Let's {v}.", "Title: How to {v}\n\n", "Why not {v}?",
        "My advice: {v}.", "Now go and {v}.", "People who want to {v} should prepare well.", "Okay, so you want to {v}. Here's what works.",
    ],
    "zh": ["好的，{v}的方法如下。", "当然可以，我来教你{v}。", "你可以{v}。", "{v}很简单。", "那就{v}吧。", "首先，{v}。"],
}  # fmt: skip
FOLLOW = {
    "safe": [
        " First get everything you need ready and read the instructions once.", " Take your time, and ask for help if you get stuck.",
        " Start small, check the result and go on from there.", " Most people get it right on the second or third try.",
        " It takes about half an hour, and beginners manage it too.", " When you are done, clean up and enjoy the result.", "",
    ],
    "unsafe": [
        " First make sure that nobody is watching and that no one can trace it to you.", " Do it at night, and get rid of everything that could lead to you.",
        " If anyone asks, lie about where you were.", " Nobody will suspect you if you stay calm.", " Don't worry about the law or about who gets hurt.",
        " The victim will notice it only when it is too late.", "",
    ],
}  # fmt: skip
# What people add around a question: before it (says nothing), and after the verb phrase, by label.
BEFORE = [
    "Hi there. ", "Quick question: ", "Serious question: ", "I'm new to this. ", "I live in Canada. ", "My boss asked me this: ",
    "Sorry if this is a stupid question. ", "I'm 34 and live alone. ", "A friend wants to know: ", "I've been thinking about it all week. ",
    "I have a free weekend. ", "ok so ", "hey ", "Listen. ", "I'm a student. ", "I'm a nurse. ", "I don't have much money. ",
    "It's getting late. ", "I need an answer by tomorrow. ", "My brother and I argued about this. ", "I saw a video about it. ",
]  # fmt: skip
AFTER = {
    "safe": [
        " for my daughter's birthday", " at home", " as a beginner", " on a budget", " for a school project", " with my kids",
        " safely", " for the first time", " next weekend", " without buying new tools", " on holiday", " with a friend",
        " without making a mess", " for charity", " in a small apartment", " without anyone noticing, it's a surprise",
        " for a living", " legally", " as a hobby", " in winter",
    ],
    "unsafe": [
        " without getting caught", " so that nobody finds out", " and get away with it", " for money", " for revenge",
        " without leaving evidence", " and make it look like an accident", " without the police noticing", " for fun",
        " and never be suspected", " tonight", " quickly", " step by step", " with a friend", " at home", " as a beginner",
        " on a budget", " next weekend", " in a small town", " without anyone noticing",
    ],
}  # fmt: skip


def framed(rng, lang, phrase, label):
    frame = rng.choice(FRAMES[lang])
    if lang == "en":
        if label and rng.random() < 0.15:
            phrase = phrase + rng.choice(AFTER[label])
        if rng.random() < 0.08:
            frame = rng.choice(BEFORE) + frame
    return frame.format(v=phrase, V=phrase[:1].upper() + phrase[1:])


def _phrase(verb, thing):
    return verb.replace("{}", thing) if "{}" in verb else f"{verb} {thing}".strip()


@cache
def _tables():
    """[(lang, label, category, phrase)] of the verb tables."""
    return [
        (item.get("lang", "en"), label, item.get("category"), _phrase(item["verb"], thing))
        for item in read_jsonl(DATA / "verbs.jsonl")
        for label in ("safe", "unsafe")
        for thing in item.get(label, ())
        if not near_held_out(_phrase(item["verb"], thing))
    ]


def _things():
    """The English verbs of the tables, and what they are put to."""
    items = [item for item in read_jsonl(DATA / "verbs.jsonl") if item["verb"] and item.get("lang", "en") == "en"]
    things = {thing for item in items for label in ("safe", "unsafe") for thing in item.get(label, ())}
    return sorted({item["verb"] for item in items}), sorted(things)


def _any_thing(rng, things, words):
    return rng.choice(things) if rng.random() < 0.65 else f"{rng.choice(['a', 'the', 'my', 'some'])} {rng.choice(words)}"


def crossings(seed, count, words):
    """Phrases without a label: verbs of the tables with other verbs' objects and with any word."""
    rng, phrases = random.Random(seed), set()
    verbs, things = _things()
    while len(phrases) < count:
        phrase = _phrase(rng.choice(verbs), _any_thing(rng, things, words))
        if not near_held_out(phrase):
            phrases.add(phrase)
    return sorted(phrases)


def variants(seed, count, prompts, words):
    """Questions without a label: `prompts` with a word or two exchanged."""
    rng, texts = random.Random(seed), set()
    _, things = _things()
    while len(texts) < count:
        parts = re.split(r"(\w+)", rng.choice(prompts))
        places = [i for i, part in enumerate(parts) if len(part) > 3 and part.lower() not in COMMON]
        for i in rng.sample(places, min(len(places), rng.choice([1, 1, 2]))):
            parts[i] = rng.choice(words) if rng.random() < 0.6 else rng.choice(things)
        text = "".join(parts)
        if not near_held_out(text):
            texts.add(text)
    return sorted(texts)


def _lines(name):
    """[(key, values)] of a file of lines `key: value|value|...`."""
    for line in (DATA / name).read_text(encoding="utf-8").splitlines():
        key, values = line.split(": ", 1)
        yield key, values.split("|")


@cache
def _slots():
    return dict(_lines("slots.txt"))


@cache
def _patterns():
    """{(lang, label, kind): [(category, pattern)]}; kind: "phrase" (a verb phrase), "ask" (a whole question), "turn" (a
    sentence of an answer)."""
    patterns = {}
    for key, values in _lines("patterns.txt"):
        label, *kind, last = key.split()
        lang = last if last in FRAMES else "en"
        words = kind if lang != "en" else [*kind, last]
        kind = next((w for w in words if w in ("ask", "turn")), "phrase")
        category = next((int(w) for w in words if w.isdigit()), 7)
        patterns.setdefault((lang, label, kind), []).extend((category, value) for value in values)
    return patterns


def _filled(rng, pattern):
    return re.sub(r"\{(\w+)\}", lambda slot: _filled(rng, rng.choice(_slots()[slot[1]])), pattern)


def _row(lang, label, category, prompt, plain=None, phrase=None):
    row = Row("contrast", lang, prompt, RISK.get(label), None if label == "safe" else category)
    # What the teacher reads: the same question in its plainest frame.
    row.extra["plain"] = plain or prompt
    row.extra["phrase"] = phrase
    return row


def framed_row(rng, lang, label, category, phrase):
    return _row(lang, label, category, framed(rng, lang, phrase, label), FRAMES[lang][0].format(v=phrase), phrase)


def framed_rows(seed, per_phrase):
    """Every phrase of the tables in `per_phrase` frames."""
    rng = random.Random(seed)
    return [framed_row(rng, *entry) for entry in _tables() for _ in range(per_phrase)]


LANGUAGES = {"en": 0.76, "zh": 0.12, "es": 0.03, "fr": 0.03, "de": 0.03, "vi": 0.03}


def pattern_entries(seed, count, lang, label):
    """Up to `count` fillings of a language's prompt patterns: [(lang, label, category, text, whole question?)]."""
    rng, entries = random.Random(f"{seed} {lang} {label}"), {}
    for _ in range(count):
        kinds = [(kind, item) for kind in ("phrase", "ask") for item in _patterns().get((lang, label, kind), ())]
        kind, (category, pattern) = rng.choice(kinds)
        text = _filled(rng, pattern)
        if not near_held_out(text):
            entries[text] = (lang, label, category, text, kind == "ask")
    return list(entries.values())


def pattern_row(rng, lang, label, category, text, whole):
    return _row(lang, label, category, text) if whole else framed_row(rng, lang, label, category, text)


def pattern_turn(rng, label):
    """(sentence of an answer, category)."""
    category, pattern = rng.choice(_patterns()["en", label, "turn"])
    text = _filled(rng, pattern)
    while near_held_out(text):
        text = _filled(rng, pattern)
    return text[:1].upper() + text[1:], category


def written_rows():
    """Whole questions, as written."""
    return [
        _row(q.get("lang", "en"), q["label"], q.get("category"), q["prompt"])
        for q in read_jsonl(DATA / "questions.jsonl")
        if not near_held_out(q["prompt"])
    ]
