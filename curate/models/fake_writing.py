"""What fake models write, and what can be read back from it: a hidden quality, told by careful and careless words."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from curate.models.fake_draws import Draw


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CAREFUL = _words("precisely thoroughly correctly reliably exactly accurately consistently demonstrably carefully verifiably")
CARELESS = _words("maybe somehow basically vaguely supposedly sloppily allegedly randomly kinda hastily")
TELLS = re.compile(rf"\b(?:(?P<careful>{'|'.join(CAREFUL)})|{'|'.join(CARELESS)})\b", re.IGNORECASE)
NOUNS = _words(
    "method answer result value reason case step model table question sample signal record pattern limit budget garden river "
    "engine letter measure market recipe season window teacher history network library balance language choice error plan"
)
VERBS = _words(
    "explains covers changes limits follows describes supports compares improves separates checks returns links replaces "
    "orders predicts shapes confirms needs removes"
)
ADJECTIVES = _words(
    "small common second simple local early useful open final exact shared stable broad quiet recent plain typical main "
    "hidden warm"
)
OPENERS = ("", "", "", "First, ", "Then ", "In short, ", "For example, ", "By contrast, ", "At the same time, ", "As a rule, ")
ELSEWHERE = (
    "Das hängt vom Einzelfall ab.",
    "Cela dépend surtout du contexte.",
    "Todo empieza con una buena pregunta.",
    "これは一例にすぎません。",
    "具体情况需要具体分析。",
    "هذا مثال واحد فقط.",
    "Это лишь один из примеров.",
    "यह केवल एक उदाहरण है।",
    "Små skritt hjelper 🙂",
)
PLEAS = ("Please explain this in your own words: ", "Step by step and with an example: ", "For somebody new to the topic: ")
SUM = re.compile(r"(?<![\d.,])(\d{1,6})\s*([-+*×])\s*(\d{1,6})(?![\d.,]*\d)")
HARM = re.compile(r"\bworse\b", re.IGNORECASE)


def read_quality(text: str) -> float:
    """The hidden quality of a text, in [0, 1].

    The share of careful words among the careful and careless ones, less where sentences come twice or the last one is
    cut off. A text that has neither kind of word has the quality its hash draws; an empty one has 0.
    """
    if not text.strip():
        return 0.0
    tells = [bool(match["careful"]) for match in TELLS.finditer(text)]
    quality = sum(tells) / len(tells) if tells else Draw("quality of", text).share()
    sentences = [part.strip() for part in re.split(r"(?<=[.!?。])\s+", text) if part.strip()]
    quality *= len(set(sentences)) / len(sentences)
    return quality if re.search(r"[.!?。।🙂)\]}\"'`\d]\s*$", text) else 0.8 * quality


def content_of(message: Mapping[str, Any]) -> str:
    """The text of a message; of several parts, the texts among them."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")
    return content or ""


def without_thought(text: str) -> str:
    """The text after its reasoning."""
    return text.rpartition("</think>")[2]


def compose(draw: Draw, words: float, quality: float, about: Sequence[str], sprinkle: float) -> str:
    """Sentences of about so many words in all, with careful and careless words in the proportion of the quality."""
    clauses = max(2, round(words / 8))
    careful = round(quality * clauses)
    tells = iter(
        draw.shuffled([draw.pick(CAREFUL) for _ in range(careful)] + [draw.pick(CARELESS) for _ in range(clauses - careful)])
    )
    nouns = [*NOUNS, *about, *about]
    sentences: list[str] = []
    for tell in tells:
        sentence = draw.pick(OPENERS) + clause(draw, tell, nouns)
        if draw.happens(0.4) and (second := next(tells, None)) is not None:
            sentence += f", and {clause(draw, second, nouns)}"
        sentences.append(sentence[0].upper() + sentence[1:] + ".")
        if draw.happens(sprinkle):
            sentences.append(draw.pick(ELSEWHERE))
    return "".join(
        sentence + ("" if i == len(sentences) else "\n\n" if i % 5 == 0 else " ") for i, sentence in enumerate(sentences, 1)
    )


def clause(draw: Draw, tell: str, nouns: Sequence[str]) -> str:
    """Something said of two things."""
    return f"the {draw.pick(nouns)} {tell} {draw.pick(VERBS)} the {draw.pick(ADJECTIVES)} {draw.pick(nouns)}"


def topics(text: str) -> list[str]:
    """Up to twelve words that a text is about."""
    found = re.findall(r"\b[a-z]{5,14}\b", text.lower()[:4000])
    return [word for word in dict.fromkeys(found) if not TELLS.fullmatch(word)][:12]


def result_of(draw: Draw, prompt: str, wrong_share: float) -> str | None:
    """One sentence with the result of the sum a prompt asks for, at times a wrong one; None where it asks for none."""
    found = SUM.search(prompt)
    if found is None:
        return None
    first, second = int(found[1]), int(found[3])
    right = {"+": first + second, "-": first - second}.get(found[2], first * second)
    return f"The answer is {right + (1 + int(9 * draw.share())) * draw.happens(wrong_share)}."


def edited(draw: Draw, text: str, instruction: str) -> str:
    """A text made worse, or put in other words, as its instruction asks."""
    if not HARM.search(instruction):
        return str(draw.pick(PLEAS)) + text
    spoiled = TELLS.sub(lambda match: draw.pick(CARELESS) if match["careful"] and draw.happens(0.7) else match[0], text)
    return spoiled if spoiled != text else f"{draw.pick(CARELESS).capitalize()} it {draw.pick(VERBS)} {draw.pick(NOUNS)}. {text}"
