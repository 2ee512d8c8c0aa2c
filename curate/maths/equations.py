"""Check the sums a text states, such as 16 - 3 - 4 = 9, with exact arithmetic; what cannot be read for sure is left alone."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

SIGNS = str.maketrans("×·÷−–", "**/--")
NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,12})?%?"
TOKEN = re.compile(rf"\s*(?:[$€£]\s*)?(?P<number>{NUMBER})(?![\d.,]*\d)|\s*(?P<sign>[-+*/()])")
RUN = re.compile(r"(?:[\d%$€£()+\-*/= \t]|[.,](?![ \t]|$))+", re.MULTILINE)
ANNOTATION = re.compile(r"<<[^<>\n]*>>")  # a calculator's, as in GSM8K: it says again what the text says
TIMES = re.compile(r"(?<=[\d)%])\s*[xX]\s*(?=[\d($€£])")
SIGN_IN_WORDS = re.compile(r"\b(?:x|times|of|by|plus|minus|over|less|than)\s*\Z", re.IGNORECASE)
"""Before a calculation, it says that the calculation began earlier."""
LONGEST_SIGN = 12
VARIABLE = re.compile(r"[^\W\d_](?![^\W\d_])|[\^_]")
MOST_TOKENS = 100


def equations(text: str) -> list[bool]:
    """Whether each equation holds, in order: `a = b = c` is two. Empty where the text states none that can be read.

    An equation has a calculation on at least one side and nothing but numbers, signs, brackets and currencies on both; its sides
    may differ by the rounding of the digits written (25 / 3.5 = 7.14) where one of them is a plain number.
    """
    if "=" not in text:
        return []
    plain = TIMES.sub("*", ANNOTATION.sub("", text).translate(SIGNS))
    return [holds for run in RUN.finditer(plain) if "=" in run[0] for holds in _in_run(plain, run)]


def _in_run(plain: str, run: re.Match[str]) -> Iterator[bool]:
    sides = run[0].split("=")
    whole = [True] * len(sides)
    # a side that goes on in letters beyond the run is no number: 2y + 3 = 7, or 7 = 3y
    whole[0] = run[0].lstrip()[:1] not in "+-*/" and _begins(plain, run)
    whole[-1] = run[0][-1] in " \t" or VARIABLE.match(plain, run.end()) is None
    for place in range(len(sides) - 1):
        left, right = (value_of(sides[at]) if whole[at] else None for at in (place, place + 1))
        if left is None or right is None or (left.is_plain and right.is_plain):
            continue
        yield any(abs(one - other) <= max(slack, more) for one, slack in left.readings for other, more in right.readings)


def _begins(plain: str, run: re.Match[str]) -> bool:
    """Whether a calculation may begin with the run, and not in the words before it."""
    before = plain[max(0, run.start() - LONGEST_SIGN) : run.start()]
    if run[0][0] in " \t":
        return SIGN_IN_WORDS.search(before) is None
    return not before or not (before[-1].isalpha() or before[-1] in "_^")


class Value(NamedTuple):
    """What a side of an equation comes to."""

    readings: tuple[tuple[Fraction, Fraction], ...]
    """(value, half a unit of its last digit): 4% is 0.04, and 4 where somebody multiplied by 100 to get it."""
    is_plain: bool
    """Whether it is a number, without a calculation."""


def value_of(side: str) -> Value | None:
    """The value of a calculation; None if it is not one from end to end, or divides by zero."""
    tokens = list(_tokens(side.strip().rstrip(".,")))
    if not tokens or None in tokens or len(tokens) > MOST_TOKENS:
        return None
    reader = _Reader([token for token in tokens if token is not None])
    try:
        value = reader.sum()
    except (_NoSum, ZeroDivisionError):
        return None
    if reader.rest:
        return None
    numbers = [token for token in tokens if token not in ("+", "-", "*", "/", "(", ")")]
    is_plain = len(numbers) == 1 and not {"*", "/"} & set(tokens)
    slack = _rounding(str(numbers[0])) if is_plain else Fraction(0)
    percent = is_plain and str(numbers[0]).endswith("%")
    return Value(((value, slack), (100 * value, 100 * slack)) if percent else ((value, slack),), is_plain)


def _tokens(side: str) -> Iterator[str | None]:
    """Numbers and signs; None where something is neither."""
    at = 0
    while at < len(side):
        found = TOKEN.match(side, at)
        if found is None:
            if side[at:].strip():
                yield None
            return
        yield found["number"] or found["sign"]
        at = found.end()


def _rounding(number: str) -> Fraction:
    """Half a unit of the last digit of a number with decimals; none for a whole one."""
    decimals = len(number.rstrip("%").partition(".")[2])
    unit = Fraction(1, 10**decimals) / (100 if number.endswith("%") else 1)
    return unit / 2 if decimals else Fraction(0)


class _NoSum(Exception):
    """The tokens are no calculation."""


class _Reader:
    """Reads tokens from left to right; * and / before + and -."""

    def __init__(self, tokens: list[str]) -> None:
        self.rest = tokens[::-1]

    def sum(self) -> Fraction:
        value = self._product()
        while self.rest and self.rest[-1] in "+-":
            value += self._product() if self.rest.pop() == "+" else -self._product()
        return value

    def _product(self) -> Fraction:
        value = self._factor()
        while self.rest and self.rest[-1] in "*/":
            value = value * self._factor() if self.rest.pop() == "*" else value / self._factor()
        return value

    def _factor(self) -> Fraction:
        if not self.rest:
            raise _NoSum
        token = self.rest.pop()
        if token == "-":
            return -self._factor()
        if token == "(":
            value = self.sum()
            if not self.rest or self.rest.pop() != ")":
                raise _NoSum
            return value
        if not token[0].isdigit():
            raise _NoSum
        return Fraction(token.rstrip("%").replace(",", "")) / (100 if token.endswith("%") else 1)
