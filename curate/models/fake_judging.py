"""How fake models judge: texts shown in blocks, the qualities seen in them, and a verdict in the form that was asked for."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.models.fake_draws import Draw
from curate.models.fake_settings import Settings
from curate.models.fake_writing import compose, read_quality

BLOCK = re.compile(r"^<<<(?P<name>[^<>\n]+) (?P<code>\w+)>>>\n(?P<text>.*?)\n?<<<end (?P=code)>>>", re.DOTALL | re.MULTILINE)
"""How curate's requests show a text that is not to be obeyed."""
SHOWN = re.compile(r"(?:response|answer|candidate)\b[ _-]*(?P<label>\w*)", re.IGNORECASE)
LINE_ASKED = re.compile(r"^(?P<head>[A-Z][\w ]*): (?P<sign>[NX]\d*)$", re.MULTILINE)
TIES = frozenset({"TIE", "TIED", "EQUAL", "SAME", "DRAW", "BOTH", "C", "A=B", "NEITHER"})


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
