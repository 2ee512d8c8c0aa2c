"""The `fake` back end: models that cost nothing and answer the same every time, for tests, demos and dry runs.

A reply follows from a hash of the model's identity, the messages, the seed and the sample, so a recipe of fake models
gives the same dataset on every machine. Each written reply has a hidden quality in [0, 1]: the share of careful words
(`precisely`, `thoroughly`, ...) among its careful and careless ones (`maybe`, `somehow`, ...). A fake judge or reward
model reads it back with `read_quality`; a text without such words has the quality its hash draws.

Settings of a model under `options`:

    quality        mean hidden quality of what it writes (0.6); spread: largest distance from the mean (0.3)
    words          mean length of a reply (60)
    truncate_share share of replies that are four times as long, so that max_tokens cuts them (0)
    refuse_share   share of requests it declines: error `refused`, for good (0)
    fail_share     share of tries that fail with the retryable error `fail_kind` ("server"); every try draws anew (0)
    delay_s        seconds a reply takes (0)
    reasoning      true: reasoning beside the text; "tags": within it, as <think>…</think>
    template       text around each reply, which takes the place of {text}
    sprinkle       share of sentences in another language or script (0.05)
    wrong_share    share of wrong results where the prompt is a small sum such as 17 + 25 (0.3)
    accuracy       as a judge: probability that its order of the candidates is right (0.9)
    position_bias  as a judge: probability that the first candidate wins whatever it says; below 0: the last (0)
    length_bias    as a judge: quality added for each doubling of a text's length over 60 words (0)
    tie_margin     as a judge: qualities closer than this are a tie where the verdict allows one (0.02)
    heads          as a reward model: rewards a text (1), or their names, commas between; one called `verbosity` grows with
                   the text's length instead of its quality; noise: their standard deviation around the truth (0.5)
    dimensions     as an embedding model: length of a vector (64)
"""

import asyncio
import hashlib
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast, get_args

import numpy as np

from curate.errors import UsageError
from curate.ids import canonical_json
from curate.models.asking import Attempt, ErrorKind, Reply, Request
from curate.models.limits import CALLER_OPTIONS
from curate.models.openai_backend import Numbers
from curate.models.spec import ModelSpec, Price

DEFAULTS: dict[str, float | str | bool] = {
    "quality": 0.6,
    "spread": 0.3,
    "words": 60,
    "truncate_share": 0.0,
    "refuse_share": 0.0,
    "fail_share": 0.0,
    "fail_kind": "server",
    "delay_s": 0.0,
    "reasoning": False,
    "template": "{text}",
    "sprinkle": 0.05,
    "wrong_share": 0.3,
    "accuracy": 0.9,
    "position_bias": 0.0,
    "length_bias": 0.0,
    "tie_margin": 0.02,
    "heads": 1,
    "noise": 0.5,
    "dimensions": 64,
}
VERBOSITY = "verbosity"
NEVER_ANSWERED = frozenset({"fail_share", "fail_kind", "delay_s"})
"""Options that change when an answer comes, not what it says."""


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
REFUSALS = ("the model declined to answer this request",)
PLEAS = ("Please explain this in your own words: ", "Step by step and with an example: ", "For somebody new to the topic: ")
SUM = re.compile(r"(?<![\d.,])(\d{1,6})\s*([-+*×])\s*(\d{1,6})(?![\d.,]*\d)")
TOKEN = re.compile(r" ?\w+|\W")
BLOCK = re.compile(r"^<<<(?P<name>[^<>\n]+) (?P<code>\w+)>>>\n(?P<text>.*?)\n?<<<end (?P=code)>>>", re.DOTALL | re.MULTILINE)
"""How curate's requests show a text that is not to be obeyed."""
SHOWN = re.compile(r"(?:response|answer|candidate)\b[ _-]*(?P<label>\w*)", re.IGNORECASE)
LINE_ASKED = re.compile(r"^(?P<head>[A-Z][\w ]*): (?P<sign>[NX]\d*)$", re.MULTILINE)
HARM = re.compile(r"\bworse\b", re.IGNORECASE)
TIES = frozenset({"TIE", "TIED", "EQUAL", "SAME", "DRAW", "BOTH", "C", "A=B", "NEITHER"})


def answer_options(spec: ModelSpec) -> dict[str, Any]:
    """The options that change what is answered: they belong to a model's identity in the ledger and in a step's key."""
    return {
        name: value
        for name, value in sorted(spec.options.items())
        if name in DEFAULTS and name not in NEVER_ANSWERED and value is not None
    }


@dataclass(frozen=True)
class Settings:
    """A fake model's options with their defaults, checked."""

    told: Mapping[str, Any]

    @staticmethod
    def of(spec: ModelSpec) -> "Settings":
        """The settings of a model; an unknown option or one of the wrong kind is an error."""
        unknown = sorted(set(spec.options) - set(DEFAULTS) - CALLER_OPTIONS)
        if unknown:
            raise UsageError(
                f"model {spec.name}: no option {unknown[0]!r} for the fake back end; there are {', '.join(DEFAULTS)}"
            )
        given = {name: value for name, value in spec.options.items() if name in DEFAULTS and value is not None}
        for name, value in given.items():
            if (
                isinstance(DEFAULTS[name], (int, float))
                and name not in ("reasoning", "heads")
                and not isinstance(value, (int, float))
            ):
                raise UsageError(f"model {spec.name}: option {name} is a number, got {value!r}")
        if given.get("fail_kind", "server") not in get_args(ErrorKind):
            raise UsageError(f"model {spec.name}: fail_kind is one of {', '.join(get_args(ErrorKind))}")
        return Settings({**DEFAULTS, **given})

    def number(self, name: str) -> float:
        """A setting that is a number."""
        return float(self.told[name])

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of a reward model's outputs, as far as they were told; else as many empty ones."""
        told = self.told["heads"]
        return tuple(name.strip() for name in told.split(",")) if isinstance(told, str) else ("",) * int(told)


class Draw:
    """Draws that follow from a text: the same on every machine and in every version of Python."""

    def __init__(self, *about: Any) -> None:
        seed = hashlib.sha256(canonical_json(about).encode("utf-8", "surrogatepass")).digest()
        self._random = random.Random(int.from_bytes(seed, "big"))

    def share(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def happens(self, share: float) -> bool:
        """Whether something of that probability happens."""
        return self.share() < share

    def pick(self, among: Sequence[Any]) -> Any:
        """One of several."""
        return among[int(self.share() * len(among))]

    def bell(self) -> float:
        """A number in (-1, 1), near zero more often."""
        return self.share() + self.share() - 1

    def shuffled(self, among: Sequence[Any]) -> list[Any]:
        """All of them in another order."""
        return [item for _, item in sorted(((self.share(), i), item) for i, item in enumerate(among))]


# -- what a text says about itself


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


def tokens_of(text: str) -> list[str]:
    """A text cut into tokens of about a word, which joined give the text again."""
    return TOKEN.findall(text)


def content_of(message: Mapping[str, Any]) -> str:
    """The text of a message; of several parts, the texts among them."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")
    return content or ""


def without_thought(text: str) -> str:
    """The text after its reasoning."""
    return text.rpartition("</think>")[2]


# -- writing


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


# -- judging


@dataclass(frozen=True)
class Candidate:
    """A text shown to a judge."""

    label: str
    quality: float
    """As this judge sees it in this call, in [0, 1]."""


@dataclass(frozen=True)
class Verdict:
    """A value in a reply that is a judgement, with the probability of every value it could have had."""

    value: Any
    odds: Mapping[str, float]


def candidates_in(text: str) -> list[tuple[str, str]]:
    """(label, text) of each candidate shown in a block such as `<<<response A code>>>`; a missing label is A, B, ..."""
    shown = [(SHOWN.match(block["name"]), block["text"]) for block in BLOCK.finditer(text)]
    named = [(match["label"], text) for match, text in shown if match]
    return [(label or chr(ord("A") + place), text) for place, (label, text) in enumerate(named)]


def seen_by(settings: Settings, draw: Draw, shown: Sequence[tuple[str, str]]) -> list[Candidate]:
    """The candidates with the qualities a judge of limited accuracy sees in them."""
    labels = [label for label, _ in shown]
    growth = settings.number("length_bias")
    qualities = [min(1.0, max(0.0, read_quality(text) + growth * math.log2((text.count(" ") + 1) / 60))) for _, text in shown]
    if not draw.happens(settings.number("accuracy")):  # the order turned round; alone, any quality at all
        order = sorted(range(len(qualities)), key=qualities.__getitem__)
        mirrored = dict(zip(order, [qualities[place] for place in reversed(order)], strict=True))
        qualities = [draw.share()] if len(qualities) == 1 else [mirrored[place] for place in range(len(qualities))]
    bias = settings.number("position_bias")
    if len(qualities) > 1 and draw.happens(abs(bias)):
        favoured = 0 if bias > 0 else len(qualities) - 1
        qualities = [1.0 if place == favoured else 0.8 * quality for place, quality in enumerate(qualities)]
    return [Candidate(label, quality) for label, quality in zip(labels, qualities, strict=True)]


class Form:
    """Fills in a JSON schema: verdicts from the candidates' qualities, texts from the word list."""

    def __init__(self, settings: Settings, draw: Draw, candidates: Sequence[Candidate], schema: Mapping[str, Any]) -> None:
        self.settings, self.draw, self.candidates = settings, draw, candidates
        self.definitions = schema.get("$defs") or schema.get("definitions") or {}

    def fill(self, schema: Mapping[str, Any], focus: Candidate | None = None, name: str = "") -> Any:
        """A value that fits the schema. focus: the one candidate this part is about."""
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(schema["enum"], focus)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next(one for one in kind if one != "null")
        if kind == "object" or "properties" in schema:
            return {key: self.fill(part, self._named(key) or focus, key) for key, part in schema.get("properties", {}).items()}
        if kind == "array":
            return self._list(schema, focus, name)
        if kind in ("integer", "number"):
            return self._mark(schema, kind, focus)
        if kind == "boolean":
            return Verdict(self._quality(focus) >= 0.5, {})
        if kind == "null":
            return None
        text = compose(self.draw, 16, self._quality(focus), (), 0.0)
        return text[: schema["maxLength"]] if "maxLength" in schema else text

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            schema = self.definitions[str(schema["$ref"]).rpartition("/")[2]]
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                return self._resolved(next(part for part in schema[several] if part.get("type") != "null"))
        return schema

    def _quality(self, focus: Candidate | None) -> float:
        if focus is not None:
            return focus.quality
        return self.candidates[0].quality if self.candidates else 0.5

    def _named(self, key: str) -> Candidate | None:
        """The candidate that a field is named after: A, response_a, score_1."""
        last = re.split(r"[^0-9A-Za-z]+", key)[-1].upper()
        named = [one for one in self.candidates if one.label.upper() == last]
        return named[0] if len(self.candidates) > 1 and named else None

    def _mark(self, schema: Mapping[str, Any], kind: str, focus: Candidate | None) -> Verdict:
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0 if kind == "number" else 1))
        high = schema.get("maximum", schema.get("exclusiveMaximum", 1 if kind == "number" else 10))
        value = low + self._quality(focus) * (high - low)
        if kind == "number":
            return Verdict(round(value, 3), {})
        low, high = math.ceil(low) + ("exclusiveMinimum" in schema), math.floor(high) - ("exclusiveMaximum" in schema)
        mark = min(high, max(low, math.floor(value + 0.5)))
        return Verdict(mark, bell_odds(value, [str(one) for one in range(low, high + 1)], low) if high - low < 100 else {})

    def _choice(self, options: Sequence[Any], focus: Candidate | None) -> Any:
        labels = {one.label.upper(): one for one in self.candidates}
        meant = {str(option): labels.get(re.split(r"[^0-9A-Za-z]+", str(option).strip("[] "))[-1].upper()) for option in options}
        among = sum(one is not None for one in meant.values()) > 1
        if all(re.fullmatch(r"-?\d+", str(option)) for option in options) and (focus is not None or len(options) != len(labels)):
            ordered = sorted(options, key=int)
            place = self._quality(focus) * (len(ordered) - 1)
            return Verdict(ordered[math.floor(place + 0.5)], bell_odds(place, [str(option) for option in ordered], 0))
        if focus is not None and any(one is focus for one in meant.values()):
            return next(option for option in options if meant[str(option)] is focus)
        if len(self.candidates) > 1 and focus is None and any(">" in str(option) for option in options):
            return self._comparison(options)
        if len(self.candidates) > 1 and focus is None and among:
            return self._winner(options, meant)
        if (said := yes_or_no(options, self._quality(focus) >= 0.5)) is not None:
            return Verdict(said, sure_odds(str(said), [str(option) for option in options], 0.9))
        return self.draw.pick(options)

    def _winner(self, options: Sequence[Any], meant: Mapping[str, Candidate | None]) -> Verdict:
        ranked = sorted((one for one in meant.values() if one is not None), key=lambda one: -one.quality)
        ties = [option for option in options if meant[str(option)] is None and str(option).strip("[] ").upper() in TIES]
        tied = abs(ranked[0].quality - ranked[1].quality) < self.settings.number("tie_margin")
        if tied and ties:
            value = ties[0]
        else:
            best = self.draw.pick(ranked[:2]) if ranked[0].quality == ranked[1].quality else ranked[0]
            value = next(option for option in options if meant[str(option)] is best)
        return Verdict(value, sure_odds(str(value), [str(option) for option in options], self.settings.number("accuracy")))

    def _comparison(self, options: Sequence[Any]) -> Verdict:
        """A>B, A>>B, A=B and the like, for the first two candidates."""
        first, second = self.candidates[:2]
        gap = first.quality - second.quality
        signs: tuple[str, ...]
        signs = (">>", ">") if gap > 0.4 else (">", ">>") if gap > 0 else ("<<", "<") if gap < -0.4 else ("<", "<<")
        signs = ("=", *signs) if abs(gap) < self.settings.number("tie_margin") else signs
        plain = {str(option).strip("[] ").replace(" ", ""): option for option in options}
        turned = {"<": ">", "<<": ">>"}
        for sign in signs:
            for written in (f"{first.label}{sign}{second.label}", f"{second.label}{turned.get(sign, '')}{first.label}"):
                if written in plain:
                    value = plain[written]
                    return Verdict(value, sure_odds(str(value), [str(o) for o in options], self.settings.number("accuracy")))
        return Verdict(self.draw.pick(options), {})

    def _list(self, schema: Mapping[str, Any], focus: Candidate | None, name: str) -> list[Any]:
        items = self._resolved(schema.get("items") or {"type": "string"})
        if "prefixItems" in schema:
            return [self.fill(part, focus, name) for part in schema["prefixItems"]]
        several = self.candidates if len(self.candidates) > 1 and focus is None else ()
        count = min(max(schema.get("minItems", 0), len(several) or 1), schema.get("maxItems", 10**6))
        if len(several) > 1 and "enum" in items and {one.label for one in several} <= {str(o) for o in items["enum"]}:
            ranked = sorted(several, key=lambda one: -one.quality)
            return [next(option for option in items["enum"] if str(option) == one.label) for one in ranked][:count]
        return [self.fill(items, several[place] if place < len(several) else focus, name) for place in range(count)]


def yes_or_no(options: Sequence[Any], holds: bool) -> Any:
    """The option that says whether something holds; None where the options are no such two."""
    yes = [option for option in options if str(option).lower() in ("yes", "true", "pass", "met", "good", "safe", "correct")]
    no = [option for option in options if str(option).lower() in ("no", "false", "fail", "not met", "bad", "unsafe", "incorrect")]
    return (yes[0] if holds else no[0]) if yes and no else None


def bell_odds(value: float, names: Sequence[str], low: int) -> dict[str, float]:
    """Probabilities of neighbouring marks around a value."""
    weights = [math.exp(-(((low + place - value) / 0.7) ** 2) / 2) + 1e-9 for place in range(len(names))]
    return {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}


def sure_odds(value: str, names: Sequence[str], accuracy: float) -> dict[str, float]:
    """Probabilities of a choice among several, the chosen one most probable."""
    sure = min(0.98, max(0.52, accuracy)) if len(names) > 1 else 1.0
    return {name: sure if name == value else (1 - sure) / (len(names) - 1) for name in names}


def lines_asked(instructions: str) -> dict[str, Any]:
    """The lines such as `Mark: N` that instructions to a judge ask for, as properties of a schema."""
    asked: dict[str, Any] = {}
    for line in LINE_ASKED.finditer(instructions):
        meaning = re.search(rf"\b{line['sign']} is (?:a whole number from (\d+) to (\d+)|([^.\n]+?))(?=, N\d|\.)", instructions)
        if meaning and meaning[1]:
            asked[line["head"]] = {"enum": list(range(int(meaning[1]), int(meaning[2]) + 1))}
        elif meaning:
            asked[line["head"]] = {"enum": re.split(r", | or ", meaning[3])}
    return asked


Piece = tuple[str, Mapping[str, float] | None]
"""A part of a reply; with the odds of the values it could have had, if it is a verdict."""


def written_lines(found: Mapping[str, Any]) -> Iterator[Piece]:
    """The reasons, then a line for each verdict."""
    yield f"{found['reasons']}\n", None
    for head, verdict in found.items():
        if isinstance(verdict, Verdict):
            yield f"\n{head}: ", None
            yield str(verdict.value), verdict.odds or None


def written_json(value: Any) -> Iterator[Piece]:
    """The value as JSON text in pieces; a verdict is a piece of its own, with its odds."""
    if isinstance(value, Verdict):
        text = json.dumps(value.value, ensure_ascii=False)
        quote = '"' if isinstance(value.value, str) else ""
        yield quote, None
        yield text.removeprefix(quote).removesuffix(quote), value.odds or None
        yield quote, None
    elif isinstance(value, dict):
        for place, (key, part) in enumerate(value.items()):
            yield ("{" if not place else ", ") + json.dumps(key, ensure_ascii=False) + ": ", None
            yield from written_json(part)
        yield "}" if value else "{}", None
    elif isinstance(value, list):
        yield "[", None
        for place, part in enumerate(value):
            yield from ((", ", None),) if place else ()
            yield from written_json(part)
        yield "]", None
    else:
        yield json.dumps(value, ensure_ascii=False), None


# -- the models


class FakeBackend:
    """A chat model that answers from a hash. Its replies are as long, as slow and as faulty as its options say."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.settings = Settings.of(spec)
        self._tries: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"FakeBackend({self.spec.name})"

    async def close(self) -> None:
        """Nothing to free."""

    async def send(self, request: Request) -> Attempt:
        """One try. A try that fails is drawn from the request and the number of tries before it in this process."""
        delay = self.settings.number("delay_s")
        await asyncio.sleep(delay)
        about: list[Any] = [self.spec.name, self.spec.revision, list(request.messages), request.seed, request.sample]
        if request.tools:
            about.append(list(request.tools))
        if request.response_format is not None:
            about.append(request.response_format)
        named = hashlib.sha256(canonical_json(about).encode("utf-8", "surrogatepass")).hexdigest()
        if Draw("fails", named, self._tries[named]).happens(self.settings.number("fail_share")):
            self._tries[named] += 1
            kind = cast(ErrorKind, self.settings.told["fail_kind"])
            wait = 0.0 if kind == "rate_limit" else None
            return Attempt(Reply(error=kind, detail=f"the fake server failed at try {self._tries[named]}", seconds=delay), wait)
        self._tries.pop(named, None)
        if Draw("refuses", named).happens(self.settings.number("refuse_share")):
            return Attempt(Reply(error="refused", detail=REFUSALS[0], seconds=delay))
        return Attempt(self.answer(request, named))

    def answer(self, request: Request, named: str) -> Reply:
        """The reply to a request that does not fail. named: what the draws follow from."""
        draw = Draw("answer", named)
        pieces = self._verdict(request, draw) or [(self.text(request, draw), None)]
        if self.settings.told["reasoning"] == "tags" and request.response_format is None:
            pieces.insert(0, (f"<think>\n{compose(draw, 20, 0.5, (), 0.0)}\n</think>\n\n", None))
        tokens = [(token, odds) for text, odds in pieces for token in ([text] if odds else tokens_of(text))]
        tokens, finish = cut(tokens, request.sampling.max_tokens, request.sampling.stop)
        text = "".join(token for token, _ in tokens)
        thought = compose(Draw("thought", named), 20, 0.5, (), 0.0) if self.settings.told["reasoning"] is True else None
        asked = sum(len(tokens_of(content_of(message))) + 4 for message in request.messages)
        wanted = request.sampling.logprobs
        return Reply(
            text=text,
            reasoning=thought,
            finish_reason=finish,
            prompt_tokens=asked,
            response_tokens=len(tokens),
            logprobs=None if wanted is None else tuple(logprobs(draw, tokens, wanted)),
            seconds=self.settings.number("delay_s"),
            cost_usd=cost(self.spec.usd_per_mtok, asked, len(tokens)),
            raw={"message": {"role": "assistant", "content": text}, "finish_reason": finish},
        )

    def text(self, request: Request, draw: Draw) -> str:
        """Free text: an answer, or a text edited as the prompt asks."""
        settings = self.settings
        prompt = next((content_of(message) for message in reversed(request.messages) if message.get("role") == "user"), "")
        shown = next((block for block in BLOCK.finditer(prompt) if block["name"] == "text"), None)
        if shown is not None:
            whole = "\n".join(content_of(message) for message in request.messages)
            return edited(draw, shown["text"], whole.replace(shown[0], ""))
        longer = 4 if draw.happens(settings.number("truncate_share")) else 1
        words = settings.number("words") * (0.5 + draw.share()) * longer
        quality = min(1.0, max(0.0, settings.number("quality") + settings.number("spread") * draw.bell()))
        text = compose(draw, words, quality, topics(prompt), settings.number("sprinkle"))
        found = result_of(draw, prompt, settings.number("wrong_share"))
        return str(settings.told["template"]).replace("{text}", text if found is None else f"{text} {found}")

    def _verdict(self, request: Request, draw: Draw) -> list[Piece]:
        """A reply in the form that a judge is asked for, JSON or last lines; nothing where none is."""
        lines = None if request.response_format else lines_asked(content_of(request.messages[0]) if request.messages else "")
        if request.response_format is not None:
            schema = request.response_format.get("schema") or {}
        elif lines:
            schema = {"properties": {"reasons": {"type": "string"}} | lines}
        else:
            return []
        prompt = "\n".join(content_of(message) for message in request.messages if message.get("role") != "system")
        shown = candidates_in(prompt) or [("A", prompt)]
        found = Form(self.settings, draw, seen_by(self.settings, draw, shown), schema).fill(schema)
        return list(written_json(found) if lines is None else written_lines(found))


def cut(tokens: list[tuple[str, Any]], most: int | None, stops: Sequence[str]) -> tuple[list[tuple[str, Any]], str]:
    """The tokens before the first stop sequence, at most so many, and why they end."""
    ends = [found for stop in stops if stop and (found := "".join(token for token, _ in tokens).find(stop)) >= 0]
    if ends:
        kept, length = [], 0
        for token, odds in tokens:
            if length >= min(ends):
                break
            kept.append((token[: min(ends) - length], odds))
            length += len(token)
        tokens = kept
    if most is not None and len(tokens) > most:
        return tokens[:most], "length"
    return tokens, "stop"


def logprobs(draw: Draw, tokens: Sequence[tuple[str, Mapping[str, float] | None]], most: int) -> Iterator[dict[str, Any]]:
    """Log-probabilities for each token, with the most probable alternatives."""
    for token, odds in tokens:
        if odds is None or token not in odds:
            sure = 0.5 + 0.5 * draw.share()
            odds = {token: sure} | {f" {draw.pick(NOUNS)}": (1 - sure) / (place + 2) for place in range(min(most, 3))}
        likely = sorted(odds.items(), key=lambda item: (-item[1], item[0]))[:most]
        yield {
            "token": token,
            "logprob": math.log(odds[token]),
            "top": {name: math.log(share) for name, share in likely if share > 0},
        }


def cost(price: Price | None, asked: int, answered: int) -> float | None:
    """US dollars; None where no price is known."""
    return None if price is None else (asked * price.into + answered * price.out) / 1e6


class FakeReward:
    """A reward model that reads the hidden quality of a conversation's last message."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.settings = Settings.of(spec)

    async def send(self, messages: Sequence[Mapping[str, Any]]) -> Numbers:
        """The rewards, (1, heads), of one conversation. One try; it never fails."""
        await asyncio.sleep(self.settings.number("delay_s"))
        return Numbers(self.score([messages]))

    async def close(self) -> None:
        """Nothing to free."""

    def score(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> np.ndarray:
        """Rewards, (N, heads) float32, around 8 (quality - 0.5); NaN for a conversation of no messages."""
        heads = self.settings.heads
        rewards = [self._rewards(messages, heads) if messages else [np.nan] * len(heads) for messages in conversations]
        return np.array(rewards, dtype=np.float32).reshape(len(conversations), len(heads))

    def _rewards(self, messages: Sequence[Mapping[str, Any]], heads: Sequence[str]) -> list[float]:
        draw = Draw("reward", self.spec.name, self.spec.revision, list(messages))
        text = without_thought(content_of(messages[-1]))
        truth, length = 8 * (read_quality(text) - 0.5), math.log2((1 + len(text.split())) / 60)
        noise = [self.settings.number("noise") * 6**0.5 * draw.bell() for _ in heads]
        return [(length if head == VERBOSITY else truth) + more for head, more in zip(heads, noise, strict=True)]


class FakeEmbed:
    """An embedding model of hashed words: texts that share words lie near each other."""

    batch_size = 64

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.settings = Settings.of(spec)
        dimensions = int(self.settings.number("dimensions"))

        @lru_cache(maxsize=65536)
        def direction(word: str) -> np.ndarray:
            seed = hashlib.sha256(canonical_json([spec.name, spec.revision, word]).encode("utf-8", "surrogatepass")).digest()
            drawn: np.ndarray = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big"))).standard_normal(dimensions)
            return drawn

        self._direction: Callable[[str], np.ndarray] = direction

    async def send(self, texts: Sequence[str]) -> Numbers:
        """Vectors, (N, D). One try; it never fails."""
        await asyncio.sleep(self.settings.number("delay_s"))
        return Numbers(self.encode(texts))

    async def close(self) -> None:
        """Nothing to free."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, (N, D) float32."""
        vectors = np.zeros((len(texts), int(self.settings.number("dimensions"))), dtype=np.float64)
        for place, text in enumerate(texts):
            for word in re.findall(r"\w+|[^\w\s]", text.lower()) or [""]:
                vectors[place] += self._direction(word)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)
