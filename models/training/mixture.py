"""What an epoch is made of: prompts alone, real responses, and spliced responses whose turning point is known."""

import random
import re

from contrast import (
    ANNOUNCES,
    DECLINES,
    FOLLOW,
    LANGUAGES,
    crossings,
    framed_rows,
    pattern_entries,
    pattern_row,
    pattern_turn,
    variants,
    written_rows,
)
from corpus import DATA, read_jsonl
from overlap import near_held_out
from samples import SURE, Builder, noisy, turn_of

# (group, weight) of the samples.
SHARES = {
    "questions": 0.08, "jailbreaks": 0.02, "tweets": 0.15, "passages": 0.03, "instructions": 0.025, "contrast": 0.16,
    "unlabelled": 0.35, "patterns": 0.06, "written": 0.12, "chat": 0.05,
    "attacks": 0.05, "withstood": 0.03, "answers": 0.14, "short answers": 0.02, "refusals": 0.05,
    "tweet responses": 0.03, "splices": 0.12, "announcements": 0.05,
}  # fmt: skip
PATTERNS = 6000  # fillings of the patterns a label, the languages by their shares
# Questions that only the teacher judges.
CROSSINGS = 80000
VARIANTS = 70000
# What the teacher learns from.
EXAMPLES = 40000
LESSON = {"contrast": 0.4, "written": 0.26, "patterns": 0.1, "questions": 0.1, "chat": 0.08, "instructions": 0.06}


class Mixture:
    def __init__(self, rows, template, limit, seed, words):
        self.rng = random.Random(seed)
        self.seed = seed
        self.builder = Builder(template, self.rng, limit)
        self.limit = limit
        train = [row for row in rows if not row.held_out]
        source = lambda *names: [row for row in train if row.source in names]  # noqa: E731
        self.answers = [(item["prompt"], item["answer"], item.get("lang", "en")) for item in read_jsonl(DATA / "answers.jsonl")]
        self.chatter = [(prompt, answer) for prompt, answer, _ in self.answers]
        self.refusal = read_jsonl(DATA / "refusals.jsonl")
        self.turns = [(t["text"], {"unsafe": 1, "controversial": 2}[t.get("label", "unsafe")], t.get("category")) for t in read_jsonl(DATA / "turns.jsonl") if not near_held_out(t["text"])]
        self.bridges = [item["text"] for item in read_jsonl(DATA / "bridges.jsonl")]
        tweets = source("tweets-davidson")
        self.tweets = {risk: [row for row in tweets if row.risk == risk] for risk in (0, 1, 2)}
        self.instructions = source("self-instruct-seed", "self-instruct-user")
        t0 = source("t0")
        jbb = source("jailbreakbench")
        self.behaviours = [row for row in {row.prompt: row for row in jbb}.values()]
        self.groups = {
            "questions": source("harmfulqa", "catqa", "dangerousqa", "adversarialqa") + self.behaviours,
            "jailbreaks": source("jailbreakbench-prompt"),
            "passages": t0,
            "instructions": self.instructions,
            "written": written_rows(),
            "chat": [row for row in source("hh-rlhf-harmless") if row.risk is not None],
            "attacks": [row for row in jbb if row.response_risk == 1],
            # An attack's "Sure, here is ..." that a judge let pass says nothing about the words themselves.
            "withstood": [row for row in jbb if row.response_risk == 0 and not SURE.match(row.response)],
            "short answers": [row for row in t0 if row.response and len(row.response) > 3],
        }
        self.passages = [row.prompt for row in t0 if len(row.prompt) > 200]
        self.patterns = {
            (lang, label): pattern_entries(seed, int(PATTERNS * share), lang, label)
            for lang, share in LANGUAGES.items()
            for label in ("safe", "unsafe")
        }
        self.contrast = {"safe": [], "unsafe": []}
        prompts = [row.prompt for name in ("written", "chat") for row in self.groups[name] if row.lang == "en" and len(row.prompt) < 200]
        self.unlabelled = [(phrase, False) for phrase in crossings(seed, CROSSINGS, words)]
        self.unlabelled += [(prompt, True) for prompt in variants(seed, VARIANTS, prompts, words)]
        self.long = False
        self.taught = {}  # text -> row of what the teacher says about it
        self.harmful = [row for row in self.groups["questions"]]
        self.fresh_frames()

    def fresh_frames(self):
        """Fresh frames for the tables."""
        self.seed += 1
        rows = framed_rows(self.seed, 3)
        self.contrast = {
            "safe": [row for row in rows if row.risk == 0],
            "unsafe": [row for row in rows if row.risk != 0],
        }
        written = [row.prompt for row in self.groups["written"] if row.risk == 0 and row.lang == "en"]
        framed = [row.prompt for row in self.rng.sample(self.contrast["safe"], 600) if row.lang == "en"]
        self.benign_lines = written * 2 + framed

    def teacher_texts(self):
        """What the teacher is asked about: English questions of a sentence or two."""
        rows = [row for name in ("questions", "written", "chat", "instructions") for row in self.groups[name]]
        rows += self.contrast["safe"] + self.contrast["unsafe"]
        rows += [pattern_row(self.rng, *entry) for entries in self.patterns.values() for entry in entries]
        rows += [pattern_row(self.rng, "en", None, None, *entry) for entry in self.unlabelled]
        texts = sorted({self.plain(row) for row in rows if row.lang == "en" and len(row.prompt) < 300})
        self.taught = {text: i for i, text in enumerate(texts)}
        return texts

    def teacher_examples(self):
        """[(question, risk)] for the teacher to learn."""
        examples = []
        while len(examples) < EXAMPLES:
            row = self.pick(self.rng.choices(list(LESSON), list(LESSON.values()))[0])
            if row.lang == "en" and len(row.prompt) < 300:
                examples.append((self.plain(row) if self.rng.random() < 0.5 else row.prompt, row.risk))
        return examples

    @staticmethod
    def plain(row):
        return row.extra.get("plain", row.prompt)

    # --- rows

    def pattern(self, label):
        """A filled pattern in a fresh frame."""
        lang = self.rng.choices(list(LANGUAGES), list(LANGUAGES.values()))[0]
        return pattern_row(self.rng, *self.rng.choice(self.patterns[lang, label]))

    def either(self, label):
        """A question from the tables or, now and then, the patterns."""
        return self.pattern(label) if self.rng.random() < 0.25 else self.rng.choice(self.contrast[label])

    def pick(self, group):
        label = "safe" if self.rng.random() < 0.52 else "unsafe"
        if group == "contrast":
            return self.rng.choice(self.contrast[label])
        if group == "patterns":
            return self.pattern(label)
        if group == "unlabelled":
            return pattern_row(self.rng, "en", None, None, *self.rng.choice(self.unlabelled))
        return self.rng.choice(self.groups[group])

    # --- one sample of each group

    def sample(self, group):
        return getattr(self, "_" + group.replace(" ", "_"), None) or (lambda: self.prompt_of(self.pick(group)))

    def prompt_of(self, row):
        prompt = noisy(self.rng, row.prompt) if len(row.prompt) < 400 else row.prompt
        messages = self.builder.messages(prompt, self.chatter)
        return self.builder.build(messages, row.risk, row.category, taught=self.taught.get(self.plain(row), -1))

    def _tweets(self):
        roll = self.rng.random()
        return self.prompt_of(self.rng.choice(self.tweets[0 if roll < 0.22 else 1 if roll < 0.34 else 2]))

    def respond(self, row, parts, category, prompt=None):
        """A response to the row's prompt, or to another prompt (whose own verdict is then given)."""
        row = prompt or row
        return self.builder.build(self.builder.messages(row.prompt, self.chatter), row.risk, row.category, parts, category)

    def any_prompt(self, harmful):
        if harmful and self.rng.random() < 0.6:
            return self.rng.choice(self.harmful)
        return self.either("unsafe" if harmful else "safe")

    def attack_parts(self, row):
        start, said = turn_of(row.response)
        return ([(row.response[:start], 0, 0)] if start else []) + [(row.response[start:], 1, max(said - start, 0))]

    def _attacks(self):
        row = self.rng.choice(self.groups["attacks"])
        category = row.category
        return self.respond(row, self.attack_parts(row), category, self.any_prompt(False) if self.rng.random() < 0.35 else None)

    def _withstood(self):
        row = self.rng.choice(self.groups["withstood"])
        return self.respond(row, [(row.response, 0, 0)], None)

    def safe_text(self, most=700):
        """Harmless prose."""
        roll = self.rng.random()
        if roll < 0.4:
            return self.rng.choice(self.answers)[1][:most]
        if roll < 0.55:
            return self.rng.choice(self.instructions).response[:most]
        if roll < 0.75:
            return self.rng.choice(self.passages)[:most]
        # Harmless questions and remarks in a row: people and their things, "you" and "her", without any harm.
        remark = lambda: self.rng.choice(self.benign_lines) if self.rng.random() < 0.4 else pattern_turn(self.rng, "safe")[0]  # noqa: E731
        return " ".join(remark() for _ in range(self.rng.randint(2, 6)))[:most]

    def _answers(self):
        roll = self.rng.random()
        if roll < 0.6:
            prompt, answer, lang = self.rng.choice(self.answers)
            row = Prompt(prompt, 0)
        elif roll < 0.8:
            row = self.rng.choice(self.instructions)
            answer = row.response
        else:
            row, answer = self.any_prompt(False), self.rng.choice(self.passages)
        while self.rng.random() < (0.8 if self.long else 0.25):
            answer = answer + "\n\n" + self.safe_text()
        swap = self.any_prompt(True) if self.rng.random() < 0.25 else None
        return self.respond(row, [(answer, 0, 0)], None, swap)

    def _short_answers(self):
        row = self.rng.choice(self.groups["short answers"])
        return self.respond(row, [(row.response, 0, 0)], None)

    def refuse(self, lang=None):
        pick = lambda kind, lang: self.rng.choice([r["text"] for r in self.refusal if r["kind"] == kind and r.get("lang", "en") == lang])  # noqa: E731
        lang = lang or ("zh" if self.rng.random() < 0.15 else "en")
        space = "" if lang == "zh" else " "
        text = pick("open", lang)
        for kind, chance in (("reason", 0.7), ("offer", 0.5)):
            if self.rng.random() < chance:
                text += space + pick(kind, lang)
        return text

    def _refusals(self):
        row = self.any_prompt(True)
        phrase = row.extra.get("phrase")
        if phrase and row.lang in DECLINES and self.rng.random() < 0.8:
            text = self.rng.choice(DECLINES[row.lang]).format(v=phrase)
            if self.rng.random() < 0.5:
                text += (" " if row.lang == "en" else "") + self.refuse(row.lang)
            return self.respond(row, [(text, 0, 0)], None)
        return self.respond(row, [(self.refuse(), 0, 0)], None)

    def _announcements(self):
        """An answer that takes up the question's own words: harmful from the phrase on, or harmless throughout."""
        rng = self.rng
        harmful = rng.random() < 0.5
        row = self.either("unsafe" if harmful else "safe")
        while row.lang not in ANNOUNCES or row.extra["phrase"] is None:
            row = self.either("unsafe" if harmful else "safe")
        before, after = rng.choice(ANNOUNCES[row.lang]).split("{v}", 1)
        phrase = row.extra["phrase"] if before else row.extra["phrase"][:1].upper() + row.extra["phrase"][1:]
        text = phrase + after
        if row.lang == "en":
            text += "".join(rng.sample(FOLLOW["unsafe" if harmful else "safe"], 2))
        parts = [(before, 0, 0), (text, 1 if harmful else 0, None if harmful else 0)]
        if rng.random() < 0.3:
            parts.insert(0, (self.safe_text(200) + " ", 0, 0))
        other = self.any_prompt(not harmful and rng.random() < 0.5) if rng.random() < 0.4 else None
        return self.respond(row, [part for part in parts if part[0]], row.category, other)

    def _tweet_responses(self):
        roll = self.rng.random()
        row = self.rng.choice(self.tweets[0 if roll < 0.4 else 1 if roll < 0.7 else 2])
        text = re.sub(r"^(RT )?(@\w+:? )+", "", row.prompt)
        return self.respond(None, [(text, row.risk, None)], row.category, self.any_prompt(self.rng.random() < 0.2))

    def turn(self):
        """(sentence that turns an answer, risk, category)."""
        if self.rng.random() < 0.75:
            return self.rng.choice(self.turns)
        text, category = pattern_turn(self.rng, "unsafe")
        return text, 1, category

    def _splices(self):
        """Harmless first, harmful from a known character on."""
        rng = self.rng
        lead = self.safe_text(500)
        while self.long and rng.random() < 0.75:
            lead += "\n\n" + self.safe_text(500)
        sentences = re.split(r"(?<=[.!?。！？])\s*", lead)
        lead = " ".join(s for s in sentences[: rng.randint(1, max(1, len(sentences)))] if s) if lead.isascii() else lead
        roll = rng.random()
        if roll < 0.55:
            text, risk, category = self.turn()
            while rng.random() < 0.4:
                more, risk2, _ = self.turn()
                if risk2 == risk:
                    text += " " + more
            grace = None
        elif roll < 0.8:
            row = rng.choice(self.groups["attacks"])
            text, risk, category = row.response, 1, row.category
            start, said = turn_of(text)
            text, grace = text[start:], max(said - start, 0)
        else:
            row = rng.choice(self.tweets[1 if rng.random() < 0.6 else 2])
            text, risk, category, grace = re.sub(r"^(RT )?(@\w+:? )+", "", row.prompt), row.risk, row.category, None
        parts = [(lead, 0, 0)]
        if rng.random() < 0.15:
            parts = [(self.refuse(), 0, 0)]
        if rng.random() < 0.4:
            parts.append((" " + rng.choice(self.bridges), 0, 1000))
        parts.append((rng.choice([" ", " ", "\n\n"]) + text, risk, grace))
        return self.respond(None, parts, category, self.any_prompt(rng.random() < 0.3))

    def draw(self, size, stretch=1):
        """`size` samples, the longest `stretch` times the usual limit."""
        self.fresh_frames()
        self.long = stretch > 1
        samples = []
        for group in self.rng.choices(list(SHARES), list(SHARES.values()), k=size):
            # Most samples are cut short: beginnings are what a stream is judged by, and they are cheap.
            self.builder.limit = max(64, int(self.limit * stretch * self.rng.choice([0.35, 0.5, 0.7, 1])))
            samples.append(self.sample(group)())
        return samples


class Prompt:
    """A prompt with its verdict where no source row exists."""

    def __init__(self, prompt, risk, category=None):
        self.prompt, self.risk, self.category = prompt, risk, category

