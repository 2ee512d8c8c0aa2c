"""Find the numbers that a text writes, with every way to read them: separators, fractions, powers, percent, words."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_COMMA = r"(?:,|\{,\}|\\[,!])"
_DIGITS = (
    rf"(?:\d{{1,3}}(?:{_COMMA}\d{{3}})+(?:\.\d+)?"  # 1,000.5
    r"|\d{1,3}(?:\.\d{3})+(?:,\d+)?"  # 1.000,5
    r"|\d{1,3}(?:[ ']\d{3})+(?:[.,]\d+)?"  # 1 000 and 1'000
    rf"|\d{{1,2}}(?:{_COMMA}\d{{2}})+{_COMMA}\d{{3}}(?:\.\d+)?"  # 1,00,000
    r"|\d+(?:[.,]\d+)?|\.\d+)(?!\d)"
)
_VULGAR = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_FRACTION = (
    r"(?:\\[dt]?frac\s*(?:\{\s*(?P<top>-?[\d.,]+)\s*\}\s*\{\s*(?P<bottom>[\d.,]+)\s*\}|(?P<short_top>\d)\s*(?P<short_bottom>\d))"
    r"|(?P<over>\d+(?:\.\d+)?)\s?/\s?(?P<under>\d+(?:\.\d+)?)(?!\d|\s?/\s?\d)"
    rf"|(?P<vulgar>[{_VULGAR}]))"
)
_POWER_OF_TEN = (
    r"(?:[eE](?P<e>[+-]?\d{1,4})(?!\w)|\s*(?:×|\\times|[xX*]|·|\\cdot)\s*10\s*"
    r"(?:(?:\^|\*\*)\s*[{(]*\s*(?P<ten>[+-]?\d{1,4})\s*[})]*|(?P<ten_up>[⁻⁺]?[⁰¹²³⁴-⁹]{1,4})))"
)
_POWER = r"(?:\^\s*[{(]*\s*(?P<power>[+-]?\d{1,3})\s*[})]*|(?P<power_up>[⁻⁺]?[⁰¹²³⁴-⁹]{1,3}))"
_NUMBER = re.compile(
    # not the 2 of m^2, x_2 or H2O, the 4 of GPT-4, the end of a date, a clock time or a version, the 3 of a root
    r"(?:(?<![A-Za-z\u00c0-\u024f\u0370-\u03ff\d^])(?<![A-Za-z0-9)}\]]_)|(?<=\bRs)|(?<=USD)|(?<=EUR))(?<![^#]#)(?<!\d[.,:/])(?<![\^_][{(-])"
    r"(?<![\^_]\{-)(?<![A-Za-z]-)(?<!sqrt\{)(?<!√)(?<!\\\\\[)"
    r"(?P<sign>(?<![\w)\]}%.])(?<![\d)%] )-|(?<==)-\s|(?<== )-\s)?(?:\\?[$€£¥₹]\s?(?P<inner_sign>-)?)?"
    rf"(?:(?:(?P<whole>\d{{1,3}})(?:\s+|(?=[\\{_VULGAR}])))?{_FRACTION}|(?P<digits>{_DIGITS})(?:{_POWER_OF_TEN}|{_POWER})?)"
    r"(?!\d|[.,]\d|:\d|/\d|-[a-z]{2}|(?:st|nd|rd|th)\b|[xyzn]\b|\s*(?:\\sqrt|\\pi|\\log|\\ln|√|π))"
    r"(?P<percent>\s?(?:\\?%|per ?cent\b))?(?P<scale>\s?(?:thousand|million|billion|trillion)\b)?"
)
_MAGNITUDE = 10_000
"""Digits before or after the point beyond which nothing is a number, so that no text can exhaust memory or precision."""
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_COUNTING = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen
"""
_UNITS = _COUNTING.split()
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBER_WORD = re.compile(
    rf"\b(?P<negative>(?:minus|negative) )?(?:(?P<tens>{'|'.join(_TENS)})(?:[- ](?P<ones>{'|'.join(_UNITS[1:10])}))?"
    rf"|(?P<unit>{'|'.join(_UNITS)}))\b(?! (?:hundred|thousand|million|half|third|of (?:the|them|these)))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Number:
    """A number found in a text.

    value: the first reading. alternatives: other readings that count as right: "12%" also as 0.12, "1.000" also as a
    thousand. text[start:end] of the source is what was read; cue is what pointed to it (boxed, ####, answer, bold, last).
    """

    value: Decimal
    alternatives: tuple[Decimal, ...]
    text: str
    start: int
    end: int
    cue: str = "last"

    @property
    def readings(self) -> tuple[Decimal, ...]:
        """Every reading, the first one first."""
        return (self.value, *self.alternatives)


def numbers_in(plain: str, start: int = 0, end: int | None = None, cue: str = "last") -> Iterator[Number]:
    """Every number that stands between two places of a plain text, in order. cue: what points to them."""
    for match in _NUMBER.finditer(plain, start, len(plain) if end is None else end):
        number = _as_number(match, cue)
        if number is not None:
            yield number


def _as_number(match: re.Match[str], cue: str) -> Number | None:
    readings = _decimals(match["digits"]) if match["digits"] else _fraction(match)
    if not readings:
        return None
    sign = -1 if match["sign"] or match["inner_sign"] else 1
    readings = [sign * raised for reading in readings if (raised := _raised(reading, match)) is not None]
    if not readings:
        return None
    if match["percent"]:
        readings += [reading / 100 for reading in readings]
    if match["scale"]:
        readings += [reading.scaleb(-_SCALES[match["scale"].strip()]) for reading in readings]
    return Number(readings[0], tuple(readings[1:]), match.group().strip(), match.start(), match.end(), cue)


def _fraction(match: re.Match[str]) -> list[Decimal]:
    if match["vulgar"]:
        part = Decimal(str(unicodedata.numeric(match["vulgar"]))).quantize(Decimal("1e-15"))
    else:
        top = match["top"] or match["short_top"] or match["over"]
        bottom = match["bottom"] or match["short_bottom"] or match["under"]
        above, below = _decimals(top.lstrip("-")), _decimals(bottom)
        if not above or not below or below[0] == 0:
            return []
        if max(abs(above[0].adjusted()), abs(below[0].adjusted())) > _MAGNITUDE:
            return []
        part = (-1 if top.startswith("-") else 1) * above[0] / below[0]
    return [part + int(match["whole"] or 0)]


def _decimals(digits: str) -> list[Decimal]:
    """The readings of digits with separators, likeliest first; a single point before three digits can be either."""
    digits = re.sub(_COMMA, ",", digits).replace(" ", "").replace("'", "")
    if re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", digits):
        return [Decimal(digits), Decimal(digits.replace(".", ""))]
    points, commas = digits.count("."), digits.count(",")
    if points and commas:
        thousands, decimal = (",", ".") if digits.rfind(".") > digits.rfind(",") else (".", ",")
    elif commas == 1 and not re.fullmatch(r"[1-9]\d{0,2},\d{3}", digits):
        thousands, decimal = ".", ","
    else:
        thousands, decimal = (".", ",") if points > 1 else (",", ".")
    number = digits.replace(thousands, "").replace(decimal, ".")
    return [Decimal(number)] if re.fullmatch(r"\d*\.?\d+", number) else []


def _raised(reading: Decimal, match: re.Match[str]) -> Decimal | None:
    """The reading times its power of ten or scale word, or to its power; None where that is beyond reckoning."""
    ten = int(match["e"] or match["ten"] or (match["ten_up"] or "0").translate(_SUPERSCRIPTS))
    power = int(match["power"] or (match["power_up"] or "1").translate(_SUPERSCRIPTS))
    ten += _SCALES[match["scale"].strip()] if match["scale"] else 0
    if not reading:
        return reading
    if abs(power) * (abs(reading.adjusted()) + 1) + abs(ten) > _MAGNITUDE:
        return None
    return (reading**power).scaleb(ten) if power != 1 else reading.scaleb(ten)


def spelled(word: re.Match[str], cue: str) -> Number:
    """The number that a match of NUMBER_WORD says."""
    tens = 10 * (_TENS.index(word["tens"].lower()) + 2) if word["tens"] else 0
    value = tens + _UNITS.index((word["ones"] or word["unit"] or "zero").lower())
    return Number(Decimal(-value if word["negative"] else value), (), word.group(), word.start(), word.end(), cue)
