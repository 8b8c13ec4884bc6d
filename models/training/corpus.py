"""The source rows: cleaned, split by prompt hash, their categories mapped onto the released ones."""

import gzip
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

DATA = Path(__file__).parent / "data"
RISK = {"safe": 0, "unsafe": 1, "controversial": 2}

VIOLENT, SEXUAL, SELF_HARM, POLITICAL, PII, COPYRIGHT, ILLEGAL, UNETHICAL, JAILBREAK = range(9)

# Sections of CatQA ("Section/Topic"); the topic wins over the section.
CATQA = {
    "Physical abuse": VIOLENT, "Content Sexual exploitation": SEXUAL, "Self-harm": SELF_HARM,
    "Weapon making": VIOLENT, "Assault and battery": VIOLENT, "Terrorism and extremism": VIOLENT, "Weapon": VIOLENT,
    "Intellectual property theft": COPYRIGHT, "Illegal Activity": ILLEGAL, "Hate/Harass/Violence": UNETHICAL,
    "Malware Viruses": ILLEGAL, "Economic Harm": ILLEGAL, "Fraud/Deception": ILLEGAL, "Adult Content": SEXUAL,
    "Political Campaigning": POLITICAL, "Privacy Violation Activity": PII, "Tailored Financial Advice": ILLEGAL,
    "Child Abuse": UNETHICAL,
}  # fmt: skip
JAILBREAKBENCH = {
    "Privacy": PII, "Government decision-making": ILLEGAL, "Fraud/Deception": ILLEGAL, "Disinformation": POLITICAL,
    "Harassment/Discrimination": UNETHICAL, "Sexual/Adult content": SEXUAL, "Physical harm": VIOLENT,
    "Malware/Hacking": ILLEGAL, "Economic harm": ILLEGAL,
}  # fmt: skip
# For sources whose categories are subjects, not harms: the first pattern that matches.
WORDS = [
    (SELF_HARM, r"suicid|self-harm|kill myself|anorexi|bulimi|starve myself"),
    (SEXUAL, r"\bsex|porn|rape\b|erotic|nude"),
    (VIOLENT, r"\bkill|murder|bomb|weapon|\bgun|poison|assassin|terroris|attack someone|explosi|violen|tortur|kidnap|\bhurt"),
    (COPYRIGHT, r"plagiari|pirat|copyright"),
    (PII, r"personal (info|data)|private (info|data)|stalk|spy on|doxx"),
    (ILLEGAL, r"steal|hack|fraud|launder|illegal|drug|malware|virus|ransom|phish|scam|brib|forge|counterfeit|tax|smuggl|embezzl|insider trading|blackmail|theft|\brob\b|break into"),
    (POLITICAL, r"election|propaganda|politic|misinformation|disinformation|fake news|conspiracy|government|regime"),
    (UNETHICAL, r"hate|racis|sexis|discriminat|stereotyp|cheat|manipulat|bully|harass|exploit|deceiv|\blie\b|lying|supremac|misogyn|phobi|justify|slander|sabotage|destroy|ruin|ethnic|religio|gender"),
]  # fmt: skip


def category_of(source, category, prompt):
    """Index of the released category, or None where there is no good mapping."""
    if source == "jailbreakbench-prompt":
        return JAILBREAK
    if source == "tweets-davidson":
        return UNETHICAL
    if source == "catqa":
        section, topic = category.rsplit("/", 1)
        return CATQA.get(topic.rstrip(":"), CATQA.get(section))
    text = prompt.lower()
    if source == "jailbreakbench":
        return SELF_HARM if re.search(WORDS[0][1], text) else JAILBREAKBENCH.get(category)
    return next((index for index, pattern in WORDS if re.search(pattern, text)), None)


@dataclass
class Row:
    source: str
    lang: str
    prompt: str
    risk: int | None = None
    category: int | None = None
    response: str | None = None
    response_risk: int | None = None
    held_out: bool = False
    extra: dict = field(default_factory=dict)


def held_out(prompt):
    """A tenth of all prompts, by hash: the same prompt is always on the same side."""
    return hashlib.sha256(prompt.strip().encode()).digest()[0] % 10 == 0


def read_jsonl(path):
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def read_rows(path):
    rows = []
    chat = {item["sha256"]: item["label"] for item in read_jsonl(DATA / "chat-labels.jsonl")}
    for item in read_jsonl(path):
        prompt = item["prompt"].strip()
        response = (item.get("response") or "").replace("<|endoftext|>", "").strip() or None
        source, label = item["source"], item.get("prompt_label")
        if label is None:
            label = chat.get(hashlib.sha256(prompt.encode()).hexdigest()[:16])
        rows.append(
            Row(
                source=source,
                lang=item["lang"],
                prompt=prompt,
                risk=None if label is None else RISK[label],
                category=category_of(source, item.get("category"), prompt) if label in ("unsafe", "controversial") else None,
                response=response,
                response_risk=RISK[item["response_label"]] if response and item.get("response_label") else None,
                held_out=held_out(prompt),
            )
        )
    return rows
