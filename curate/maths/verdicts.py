"""Read what a judge says: one strict format, or null; never a guess.

A judge answers with a JSON object, or with text whose last lines are `Verdict: A` or `Mark: 7` and nothing else. What is
almost that, is there twice, or stands in reasoning, a quotation or a code block, is no verdict.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

_THOUGHT = re.compile(
    r"<(/?)(?:think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad)>|\[(/?)THINK\]|◁(/?)think▷"
    r"|<\|(?:begin|(end))_of_thought\|>",
    re.IGNORECASE,
)
_FENCE = re.compile(r"[ ]{0,3}(?P<fence>`{3,}|~{3,})(?P<info>.*)")
_DECORATION = r"[\s*_#\-+•]*"  # what Markdown puts before a word at the beginning of a line, `>` of a quotation not included
_AFTER = re.compile(r"\s*(?:<[^<>]{1,40}>\s*)?\Z")  # blanks and a token that ends the turn
_WORD = re.compile(r"[A-Za-z0-9]*")
_JSON_PART = re.compile(r'\s*(?P<key>"(?:[^"\\]|\\.)*")\s*:\s*(?P<value>"(?:[^"\\]|\\.)*"|-?[0-9]+)\s*,?', re.DOTALL)


class Wanted(NamedTuple):
    """One thing a judge is asked to settle, and the answers it may give."""

    head: str
    """What its line begins with: Verdict, Mark, Mark 2, Mark honesty."""
    worth: Mapping[str, float]
    """Each answer as it is to be written, and the number it stands for."""

    @property
    def key(self) -> str:
        """Its name in a JSON object: verdict, mark, mark_2."""
        return (self.head[:1].lower() + self.head[1:]).replace(" ", "_")

    @property
    def is_number(self) -> bool:
        """Whether JSON holds the answer as an integer."""
        return all(choice.isdecimal() for choice in self.worth)


class Found(NamedTuple):
    """An answer and where it stands."""

    choice: str
    start: int
    """Character of the text at which the answer itself begins."""


class Reading(NamedTuple):
    """What a judge settled."""

    found: tuple[Found, ...]
    """One for each thing wanted, in that order."""
    rationale: str | None
    """What it said besides; None for nothing."""
    tail: int
    """Character of the text at which the first answer's line or key begins."""


def verdict(ties: bool = True) -> Wanted:
    """Which of two is better: the worth is the probability that A is."""
    return Wanted("Verdict", {"A": 1.0, "B": 0.0} | ({"tie": 0.5} if ties else {}))


def mark(low: int, high: int, label: str = "") -> Wanted:
    """A whole number from low to high; a label tells several marks apart."""
    if not 0 <= low < high:
        raise ValueError(f"a scale runs from a whole number of at least 0 to a larger one, got {low} to {high}")
    return Wanted(f"Mark {label}".rstrip(), {str(number): float(number) for number in range(low, high + 1)})


# -- text


def read_lines(text: str, wanted: Sequence[Wanted]) -> Reading | None:
    """The answers on the last lines that are not empty, one line each, in order; None if they are not exactly that.

    Nothing else may look like an answer: `Verdict: A` twice, or a `**Verdict:** B` before it, is no verdict. Quotations
    (`>`), code blocks and reasoning are passed over, and an answer within them is none.
    """
    lines = [line for line in _lines(text, after_reasoning(text)) if line.text.strip()]
    last = lines[-len(wanted) :]
    if len(last) < len(wanted) or not all(line.spoken for line in last):
        return None
    found = []
    for line, one in zip(last, wanted, strict=True):
        head, choice = line.text[: len(one.head) + 2], line.text[len(one.head) + 2 :].rstrip(" \t\r")
        if head != f"{one.head}: " or choice not in one.worth:
            return None
        found.append(Found(choice, line.start + len(head)))
    kinds = "|".join(sorted({re.escape(one.head.split(" ")[0]) for one in wanted}))
    alike = re.compile(rf"{_DECORATION}(?:{kinds})(?: [^\s:：]+)?[*_\s]*[:：]", re.IGNORECASE)
    if sum(line.spoken and bool(alike.match(line.text)) for line in lines) != len(wanted):
        return None
    return Reading(tuple(found), text[: last[0].start].strip() or None, last[0].start)


class _Line(NamedTuple):
    start: int
    text: str
    spoken: bool
    """False for a line of a code block."""


def _lines(text: str, begin: int) -> Iterator[_Line]:
    """Lines end at a line feed alone: other separators of Unicode can be smuggled into what a judge repeats."""
    fence = ""
    for line in text[begin:].split("\n"):
        match = _FENCE.fullmatch(line.rstrip("\r"))
        if fence:
            yield _Line(begin, line, False)
            if match and match["fence"].startswith(fence) and not match["info"].strip():
                fence = ""
        elif match and not (match["fence"][0] == "`" and "`" in match["info"]):
            fence = match["fence"]
            yield _Line(begin, line, False)
        else:
            yield _Line(begin, line, True)
        begin += len(line) + 1


def after_reasoning(text: str) -> int:
    """Where the last reasoning ends; the end of the text if it does not end."""
    begin, opened = 0, False
    for tag in _THOUGHT.finditer(text):
        begin, opened = tag.end(), not any(tag.groups())
    return len(text) if opened else begin


# -- JSON


def schema(wanted: Sequence[Wanted], rationale: bool) -> dict[str, Any]:
    """The JSON schema of the answer: the rationale, if there is one, comes before what it gives reasons for."""
    properties: dict[str, Any] = {"rationale": {"type": "string"}} if rationale else {}
    for one in wanted:
        if one.is_number:
            properties[one.key] = {"type": "integer", "enum": [int(choice) for choice in one.worth]}
        else:
            properties[one.key] = {"type": "string", "enum": list(one.worth)}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_object(text: str, wanted: Sequence[Wanted], rationale: bool) -> Reading | None:
    """The answers of the JSON object that is the whole text; None if it is not exactly what the schema asks for."""
    begin = after_reasoning(text) if text.lstrip()[:1] != "{" else 0
    body = text[begin:].strip()
    try:
        given = json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    names = [one.key for one in wanted]
    if not isinstance(given, dict) or sorted(given) != sorted([*names, *(["rationale"] if rationale else [])]):
        return None
    if rationale and not isinstance(given["rationale"], str):
        return None
    starts = _value_starts(text, text.index("{", begin))
    found = []
    for one in wanted:
        value = given[one.key]
        if type(value) is not (int if one.is_number else str) or str(value) not in one.worth or one.key not in starts:
            return None
        found.append(Found(str(value), starts[one.key][1]))
    return Reading(tuple(found), given.get("rationale") or None, min(starts[one.key][0] for one in wanted))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that comes twice is two answers."""
    given = dict(pairs)
    if len(given) != len(pairs):
        raise ValueError("a key comes twice")
    return given


def _value_starts(text: str, brace: int) -> dict[str, tuple[int, int]]:
    """Where each key of a flat object begins, and its value, the quotation mark passed over."""
    starts, at = {}, brace + 1
    while match := _JSON_PART.match(text, at):
        starts[json.loads(match["key"])] = (match.start("key"), match.start("value") + match["value"].startswith('"'))
        at = match.end()
    return starts


# -- log-probabilities


def expected(
    reading: Reading, wanted: Sequence[Wanted], text: str, tokens: Sequence[Mapping[str, Any]] | None
) -> list[float] | None:
    """What each answer is worth on average over the answers the judge could have given there; None if that is not told.

    tokens: {"token", "logprob", "top": {token: logprob}} for each token of the text (reasoning may come before it). Only the
    tokens that write the answer itself are looked at, found from the end of the text; digits anywhere else are none of
    it. Probabilities are renormalised over the valid answers (G-Eval, Liu et al. 2023, section 3).
    """
    place = _token_places(tokens or (), text[reading.tail :])
    if place is None or tokens is None:
        return None
    values = []
    for found, one in zip(reading.found, wanted, strict=True):
        shares = answer_shares(tokens, place + found.start - reading.tail, found.choice, one.worth)
        if shares is None:
            return None
        values.append(math.fsum(share * one.worth[choice] for choice, share in shares.items()))
    return values


def _token_places(tokens: Sequence[Mapping[str, Any]], tail: str) -> int | None:
    """The character of the joined tokens at which the tail of the text begins; None if they do not end with it.

    The tail is found from the end: tokens that hold half a character, and therefore do not join to the text, come earlier.
    """
    joined = "".join(token["token"] for token in tokens)
    start = joined.rfind(tail.rstrip())
    if start < 0 or not _AFTER.match(joined, start + len(tail.rstrip())):
        return None
    return start


def answer_shares(
    tokens: Sequence[Mapping[str, Any]], start: int, written: str, choices: Mapping[str, Any]
) -> dict[str, float] | None:
    """The probability of each choice at a place of the joined tokens, adding up to 1; None if it cannot be told.

    A choice may be one token or several: `10` can be written `10` or `1` and `0`. Where a token could begin two choices and
    it is the one that was written, the next token's alternatives tell them apart; where another was written it cannot be
    told and is left out, None if it is more than half of all. A first token counts as whole if the longer choice is among
    the alternatives as one token.
    """
    ends = list(accumulate(len(token["token"]) for token in tokens))
    at = int(np.searchsorted(ends, start, side="right"))
    if at == len(tokens):
        return None
    before = tokens[at]["token"][: start - (ends[at] - len(tokens[at]["token"]))]
    shares, unclear = _spread(tokens, at, before, "", written, choices)
    total = math.fsum(shares.values())
    if not total > 0 or unclear > total:
        return None
    return {choice: share / total for choice, share in shares.items()}


def _spread(
    tokens: Sequence[Mapping[str, Any]], at: int, before: str, begun: str, written: str, choices: Mapping[str, Any]
) -> tuple[dict[str, float], float]:
    """Probability of each choice that begins with `begun`, and of what could become several choices, at one token.

    before: what the token holds in front of the answer.
    """
    shares, unclear = dict.fromkeys(choices, 0.0), 0.0
    options = _options(tokens[at], before, begun)
    texts = {option.text for option in options if not option.ended}
    for option in options:
        fitting = [choice for choice in choices if choice == option.text or (not option.ended and choice.startswith(option.text))]
        if len(fitting) < 2:
            for choice in fitting:
                shares[choice] += option.share
        elif option.chosen:
            inner, lost = _continued(tokens, at + 1, option.text, written, choices)
            unclear += option.share * lost
            for choice, share in inner.items():
                shares[choice] += option.share * share
        elif option.text in choices and any(choice in texts for choice in fitting if choice != option.text):
            shares[option.text] += option.share
        else:
            unclear += option.share
    return shares, unclear


def _continued(
    tokens: Sequence[Mapping[str, Any]], at: int, begun: str, written: str, choices: Mapping[str, Any]
) -> tuple[dict[str, float], float]:
    """How the probability of what was begun divides; without a further token it is all the answer's that was written."""
    if at == len(tokens):
        return {written: 1.0}, 0.0
    shares, unclear = _spread(tokens, at, "", begun, written, choices)
    total = math.fsum(shares.values()) + unclear
    if not total > 0:
        return {}, 1.0
    return {choice: share / total for choice, share in shares.items()}, unclear / total


class _Option(NamedTuple):
    text: str
    """The answer as far as it is written with this token."""
    ended: bool
    """Whether the token shows that nothing more belongs to it."""
    share: float
    chosen: bool


def _options(token: Mapping[str, Any], before: str, begun: str) -> list[_Option]:
    """The tokens that could have stood there and write some of an answer."""
    options = []
    for text, logprob in (dict(token.get("top") or {}) | {token["token"]: token["logprob"]}).items():
        if text.startswith(before) and not math.isnan(logprob):
            rest = text[len(before) :]
            word = _WORD.match(rest).group()  # type: ignore[union-attr]
            if begun + word:
                ended = len(word) < len(rest) or not word
                options.append(_Option(begun + word, ended, math.exp(min(logprob, 0.0)), text == token["token"]))
    return options


# -- both orders


def order_flips(p_chosen: np.ndarray, p_swapped: np.ndarray) -> np.ndarray:
    """Whether a judge changes sides with the order, (N,) float32: 1 or 0, NaN where an order is missing.

    p_chosen, p_swapped: (N,) probabilities that the chosen side is better, shown first and shown second. A tie in one order
    sides with nobody: it is no flip.
    """
    sides = np.sign(p_chosen - 0.5) * np.sign(p_swapped - 0.5)
    flips: np.ndarray = np.where(np.isnan(sides), np.nan, sides < 0).astype(np.float32)
    return flips


def first_lean(p_chosen: np.ndarray, p_swapped: np.ndarray) -> np.ndarray:
    """How much more a side is favoured for being shown first, (N,) float32 in [-1, 1]; NaN where an order is missing."""
    lean: np.ndarray = (np.asarray(p_chosen) - np.asarray(p_swapped)).astype(np.float32)
    return lean
