"""Read the final answer out of a model's free text, and hold it against what is known to be right.

A reader answers None where the text settles on nothing, so that "wrong" and "unreadable" stay apart.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any

_EXTRA = {"−": "-", "–": "-", "‒": "-", "‑": "-", "﹣": "-", "⁄": "/", "∕": "/", "٪": "%", "٫": ".", "٬": ",", "’": "'"}
_EXTRA |= dict.fromkeys("\u00a0\u2007\u2009\u202f\u3000", " ")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")


def _plain(text: str) -> str:
    """The text with digits, signs and blanks of every script as ASCII, position for position."""
    return text if text.isascii() else re.sub(r"[^\x00-\x7f]", _plain_character, text)


def _plain_character(match: re.Match[str]) -> str:
    character = match.group()
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if "！" <= character <= "～":
        return chr(ord(character) - 0xFEE0)
    return _EXTRA.get(character, character)


# ---- numbers -------------------------------------------------------------------------------------------------------

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
_NUMBER_WORD = re.compile(
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


def final_number(text: str) -> Decimal | None:
    """The number a text settles on, or None; see `read_number`."""
    found = read_number(text)
    return None if found is None else found.value


def number_matches(text: str, gold: str | int | float | Decimal) -> bool | None:
    """Whether the number a text settles on is the gold one; None where there is nothing to read."""
    found = read_number(text)
    return None if found is None else numbers_equal(found, gold)


def numbers_equal(found: Number | Decimal, gold: str | int | float | Decimal, tolerance: float = 1e-9) -> bool:
    """Whether any reading of one number equals any reading of the other, within a relative tolerance.

    So "12%" equals 12 and 0.12, and "1.000" equals 1 and 1000: the benefit of the doubt goes to the answer.
    """
    expected = gold_number(gold).readings
    readings = found.readings if isinstance(found, Number) else (found,)
    return any(abs(a - b) <= Decimal(tolerance) * max(abs(a), abs(b)) for a in readings for b in expected)


def gold_number(gold: str | int | float | Decimal) -> Number:
    """The number a reference answer states, with or without unit; a gold answer without one is an error in the data.

    Of a whole solution ("16 - 3 = 13 ... #### 13") it is the number that its conclusion names, of other texts the first.
    """
    plain = _plain(str(gold))
    found = (read_number(plain) if _CUE.search(plain) else None) or next(_numbers(plain), None)
    if found is None:
        raise ValueError(f"a gold answer must hold a number, got {gold!r}")
    return found


def read_number(text: str) -> Number | None:
    r"""The number a text settles on, with its place and other readings; None where it settles on none.

    The last conclusion wins (\boxed{}, "#### 42", "the answer is", "A: 42"), then a bold number in the last paragraph,
    then the last number of the last sentence that states one. A correction ("7 … no, 8") replaces what it corrects. What
    follows the answer as a new question is another text. Not answers: labels ("Step 3:"), list numbers, exponents, dates
    beside other numbers, comparisons ("3 more than 9"). None: ranges and lists ("between 3 and 4"), sums without a
    result ("12 + 5"), irrational forms (2√3), and texts cut in the middle of a calculation or of the answer itself.
    """
    plain = _first_block(_plain(text), _CUE)
    cues = list(_CUE.finditer(plain))
    if not cues:
        return _last_number(plain, 0)
    for cue in cues[: -_CONCLUSIONS - 1 : -1]:
        statement = _statement(plain, cue)
        found = _stated(plain, *statement, cue=_cue_name(cue)) if statement else []
        if found:
            return _corrected(plain, found[0]) if len(found) == 1 else None
        if cue["boxed"] or (cue is cues[-1] and not statement):
            return None
        after = _last_number(plain, cue.end()) if cue is cues[-1] else None
        if after:
            return after
    return None


def _numbers(plain: str, start: int = 0, end: int | None = None, cue: str = "last") -> Iterator[Number]:
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


# ---- where a text concludes ----------------------------------------------------------------------------------------

_CUE = re.compile(
    r"(?P<boxed>\\(?:boxed|fbox)\s*\{)|(?P<hashes>####)"
    r"|(?P<answer>\banswers?\b[^.\n:=]{0,60}?(?:\b(?:is|are|was|be|equals|to)\b(?: equal to\b)?|[:=])\s*:?"
    r"|\b(?:die antwort (?:ist|lautet)|antwort ?:|la réponse est|réponse ?:|la respuesta es|respuesta ?:|la risposta è"
    r"|risposta ?:|a resposta é|resposta ?:|het antwoord is|antwoord ?:|odpowiedź to|odpowiedź ?:|cevap ?:|ответ ?[:—-])"
    r"|答案(?:是|为|為)?:?|^答:|答えは:?|الجواب(?: هو)?:?|الإجابة(?: هي)?:?)"
    r"|(?P<line>^[ \t*]*(?:a|ans)(?:\s?[:=]|\.(?=\s*[-$\d]))\**)",
    re.IGNORECASE | re.MULTILINE,
)
_NEXT_QUESTION = re.compile(
    r"\n[ \t]*(?:#+ ?|\*\*)?(?:Question|Problem|Q|Human|User|Instruction|Exercise|Example)(?: ?\d+)?\**[ \t]*[:.]"
    r"|<\|(?:im_end|endoftext|eot_id|user|im_start)\|>|</s>|\[INST\]"
)
_ASIDE = re.compile(r",? \(?(?:which|because|since|as (?:it|this|the|we)|given|where|compared|so that|meaning|i\.e\.|with)\b")
_NEGATION = re.compile(
    r"(?:\bnot|n't|\bnever|\bneither|\bnor|\bthan|≠|!=)(?: (?:be|a|about|just|only|the))?[\s$*\\(]*$", re.IGNORECASE
)
_LABEL = re.compile(
    r"(?:\b(?:step|question|problem|exercise|example|figure|fig|table|equation|eq|case|part|section|chapter|method"
    r"|approach|solution|line|item|note|rule)s?\.? ?[#(]?|\n[ \t]*[-*]?[ \t]*#)$",
    re.IGNORECASE,
)
_LIST_NUMBER = re.compile(r"(?:\A|\n)[ \t]*(?:\*\*|#+ )?$")
_CORRECTION = re.compile(
    r"(?:[\s.,;:!…—*)$-]|\bkm\b|\b\w{1,12}\b){0,4}?(?:\bno\s?[,:;.!…-]|\b(?:wait|actually|sorry|oops|correction|scratch that"
    r"|make that|i mean|or rather|hold on|hmm)\b)[^\d\n.]{0,40}?(?=[-$\d\\])",
    re.IGNORECASE,
)
_MONTH = r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
_MONTH += r"|nov(?:ember)?|dec(?:ember)?)\b\.?"
_DATE = re.compile(
    rf"\b(?:\d{{4}}-\d\d-\d\d|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?|\d{{1,2}} {_MONTH}(?: \d{{4}})?"
    r"|(?:in|since|by|until|from|of|year|around|before|after) (?:1[0-9]|20)\d\d)\b(?!,\d)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?:[^.!?。！？\n]|[.!?](?!\s|$))+[.!?。！？]*")
_CUT_SHORT = re.compile(
    r"(?:[=+×÷*/^<(\[{,\\≈·-]|\\(?:times|div|cdot|frac|approx)|\b(?:and|or|the|a|of|is|are|by|plus|minus|equals|to|so"
    r"|with))\s*$",
    re.IGNORECASE,
)
_BESIDE_THE_POINT = re.compile(r"[?？]\s*$|\bconfiden(?:t|ce)\b|\blet me know\b", re.IGNORECASE)
_SOLUTIONS = re.compile(r"=[^=\n]{1,20}(?:\bor\b|\band\b|,)\s*[A-Za-z]\w?\s*=")  # x = 2 or x = 3
_STATEMENT, _CONCLUSIONS = 500, 50
"""Characters of a statement, and statements from the end, that are read, so that no text takes longer than its length."""

_BOLD = re.compile(r"\*\*([^*\n]{1,80})\*\*")
_EQUALS = re.compile(r"=|≈|\\approx|\bequals\b|\bround(?:s|ed|ing)? (?:up |down |off )?to\b", re.IGNORECASE)
_REASONING = re.compile(
    r"(?:first|step|let|to (?:find|solve|calculate|determine)|since|initially|we (?:know|have|need|are|start|can)|start)\b", re.I
)
_OPERATOR = r"(?:[+*×÷/-]|\\times|\\cdot|\\div|\bplus\b|\bminus\b|\btimes\b|\band\b|\bor\b|\bto\b|\bbis\b)"


def _first_block(plain: str, cue: re.Pattern[str]) -> str:
    """The text up to where, its answer given, it goes on to another question, as base models do."""
    first = cue.search(plain)
    following = _NEXT_QUESTION.search(plain, first.end()) if first else None
    return plain[: following.start()] if following else plain


def _cue_name(cue: re.Match[str]) -> str:
    return "boxed" if cue["boxed"] else "####" if cue["hashes"] else "answer"


def _statement(plain: str, cue: re.Match[str]) -> tuple[int, int] | None:
    """Where the words that a cue announces stand; None where the text is cut before or within them.

    A heading over reasoning ("Answer: First, …") announces nothing yet.
    """
    if cue["boxed"]:
        return _braced(plain, cue.end())
    start = cue.end()
    lead = re.compile(r"[\s*:$_]*(?:\\[\[(]|\$\$?)?\s*").match(plain, start)
    start = lead.end() if lead else start
    if start >= len(plain) or plain[start:] in ("$", "\\", "-"):
        return None
    sentence = _SENTENCE.match(plain, start, start + _STATEMENT)
    end = sentence.end() if sentence else start
    if _REASONING.match(plain, start):
        return start, start
    aside = _ASIDE.search(plain, start, end)
    return start, aside.start() if aside else end


def _braced(plain: str, start: int) -> tuple[int, int] | None:
    depth = 1
    for brace in re.compile(r"\\[{}]|[{}]").finditer(plain, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return start, brace.start()
    return None


def _stated(plain: str, start: int, end: int, cue: str) -> list[Number]:
    """The number of a statement: none, one, or several where it gives a range, a list or an unfinished sum."""
    first = start
    equals = [m.end() for m in _EQUALS.finditer(plain, start, end)]
    if equals and any(_numbers(plain, equals[-1], end)):
        start = equals[-1]
    found = [n for n in _numbers(plain, start, end, cue) if not _denied(plain, n) and not _labels(plain, n)]
    if not found:
        return [_spelled(word, cue) for word in _NUMBER_WORD.finditer(plain, start, end)][:1]
    if len(found) > 1 and (cue == "boxed" or _joins(plain[found[0].end : found[1].start])):
        return found
    return 2 * found[:1] if _SOLUTIONS.search(plain, first, end) else found[:1]


def _joins(between: str) -> bool:
    """Whether what stands between two numbers makes them one range, list or sum."""
    return bool(re.fullmatch(rf"[\s$*)(°%]*(?:{_OPERATOR}|,(?: (?:and|or))?)[\s$*)(-]*", between, re.IGNORECASE))


def _spelled(word: re.Match[str], cue: str) -> Number:
    tens = 10 * (_TENS.index(word["tens"].lower()) + 2) if word["tens"] else 0
    value = tens + _UNITS.index((word["ones"] or word["unit"] or "zero").lower())
    return Number(Decimal(-value if word["negative"] else value), (), word.group(), word.start(), word.end(), cue)


def _corrected(plain: str, found: Number) -> Number:
    """The number that takes its place, as in "7 … no, 8", however often."""
    while correction := _CORRECTION.match(plain, found.end):
        better = next(_numbers(plain, correction.end(), correction.end() + 60, found.cue), None)
        if better is None:
            break
        found = better
    return found


def _last_number(plain: str, start: int) -> Number | None:
    """The last number stated after `start`; None where the text is cut within an expression or gives a range."""
    if _CUT_SHORT.search(plain[-40:]):
        return None
    bold = _last_bold(plain, start)
    if bold:
        return bold
    for sentence in reversed(list(_SENTENCE.finditer(plain, start))):
        if _BESIDE_THE_POINT.search(sentence.group()) and start + 1 < sentence.start():
            continue
        numbers = _usable(plain, sentence.start(), sentence.end())
        if numbers:
            return None if _in_range(plain, numbers, *sentence.span()) else _corrected(plain, numbers[-1])
    return _bare_word(plain[start:])


def _last_bold(plain: str, start: int) -> Number | None:
    last_paragraph = max(start, plain.rstrip().rfind("\n\n"))
    spans = [span for span in _BOLD.finditer(plain, last_paragraph) if not span[1].rstrip().endswith(":")]
    found = [_stated(plain, span.start(1), span.end(1), "bold") for span in spans]
    numbers = [one[0] for one in found if len(one) == 1 and not _labels(plain, one[0])]
    return numbers[-1] if numbers else None


def _usable(plain: str, start: int, end: int) -> list[Number]:
    """The numbers of a sentence that can be its point, the last one the likeliest."""
    start = max(start, end - _STATEMENT)
    stated = [n for n in _numbers(plain, start, end) if not _labels(plain, n) and not _denied(plain, n)]
    dates = [(m.start(), m.end()) for m in _DATE.finditer(plain, start, end)]
    numbers = [n for n in stated if not any(a <= n.start < b for a, b in dates)] or stated[-1:]
    equals = max((m.end() for m in _EQUALS.finditer(plain, start, end)), default=end)
    result = [n for n in numbers if n.start >= equals]
    if result:
        return result[:1]
    aside = _ASIDE.search(plain, start, end)
    numbers = [n for n in numbers if not aside or n.start < aside.start()] or numbers
    return [n for n in numbers if not re.search(r"\([^()]*$", plain[start : n.start])] or numbers


def _in_range(plain: str, numbers: list[Number], start: int, end: int) -> bool:
    """Whether the last number is an operand of a sum without result, one end of a range, or one of several solutions."""
    last = numbers[-1]
    before = plain[numbers[-2].end : last.start] if len(numbers) > 1 else ""
    operator = re.compile(r"\s*(?:[+*×÷]|\\times|- )\s*[\d(\\]").match(plain, last.end, end)
    arithmetic = re.fullmatch(r"\s*(?:[+*×÷/-]|\\times|\\cdot|\bto\b)\s*", before)
    between = before.strip() == "and" and re.search(r"\bbetween\b[^.]{0,20}$", plain[: numbers[-2].start])
    return bool(operator or arithmetic or between or _SOLUTIONS.search(plain, max(start, end - _STATEMENT), end))


def _denied(plain: str, number: Number) -> bool:
    return bool(_NEGATION.search(plain[max(0, number.start - 24) : number.start]))


def _labels(plain: str, number: Number) -> bool:
    """Whether a number counts steps or list items rather than anything in the question."""
    before = plain[max(0, number.start - 24) : number.start]
    if _LABEL.search(before):
        return True
    numbering = re.compile(r"(?:[.)]|:)\**\s+\S").match(plain, number.end)
    return bool(numbering and (number.start == 0 or _LIST_NUMBER.search(before)))


def _bare_word(text: str) -> Number | None:
    """A number word that is all there is ("Twelve.")."""
    word = _NUMBER_WORD.search(text) if len(text) < 40 else None
    return _spelled(word, "last") if word and len(text.split()) <= 3 else None


# ---- choices -------------------------------------------------------------------------------------------------------

_OPTION_WORD = r"(?:(?:the )?(?:option|choice|letter|answer|alternative)\b:?)?"
_WRAPPING = r"(?:[\s*_$\"'“‘:}]|\\[(\[]|\\(?:text|textbf|mathrm|mathbf|boxed|fbox)\s*\{){0,8}"
_STATES = (
    r"(?:\\(?:boxed|fbox)\s*\{|####|\b[Aa](?:nswers?|NSWER)\b[^.\n]{0,80}?(?:\b(?:is|are|be)\b|[:=])"
    r"(?:,? (?:not \(?[A-Za-z]\)?,? but(?: rather)?|most likely|likely|probably|therefore|thus|clearly|indeed|simply|then"
    r"|definitely)\b,?)?"
    r"|答案(?:是|为|為)?|正确的?选项(?:是|为)|选(?:择|项)?|\b(?:[Dd]ie Antwort (?:ist|lautet)|Antwort|[Ll]a réponse est|Réponse"
    r"|[Ll]a respuesta es|Respuesta|[Ll]a risposta è|Risposta|[Aa] resposta é|Resposta|[Hh]et antwoord is|Antwoord|Odpowiedź"
    r"|Cevap|Ответ) ?:?)"
)
_CHOOSES = (
    r"(?:\b(?:go(?:ing)? with|choos(?:e|ing)|chose|pick(?:ing|ed)?|select(?:ing|ed)?|opt for|settle on|vote for"
    r"|my (?:choice|pick|guess) is|I(?:'d| would)? say)"
    r"|\b(?:correct|right|best|closest|nearest|appropriate|suitable|likely|true|accurate|match(?:es|ing)?)\b"
    r"[^.\n]{0,80}?(?:\b(?:is|are|would be|must be|should be|be)\b|:)"
    r"|\b(?:[Tt]herefore|[Tt]hus|[Hh]ence|[Ss]o)\b[^.\n]{0,120}?(?:\bis|:)(?=\s*\**\())"
)
_PROSE_AFTER = r"(?! (?!because|since|which|is\b|as\b|due|based|given|and\b|or\b|but\b)[a-z])"
_TURN = (
    r"(?:\b[Nn]o\s?[,:;.!…-]|\b(?:[Ww]ait|[Aa]ctually|[Ss]orry|[Oo]ops|[Cc]orrection|scratch that|make that|I mean"
    r"|or rather)\b)"
)
_RECONSIDERS = re.compile(
    rf"{_TURN}|\b(?:however|but|mistake|wrong|incorrect|re-?(?:check|calculat|consider|examin|evaluat|think|do)\w*|double-check"
    r"|therefore|thus|hence|so|final(?! answers)|finally|conclu\w+|let me|let us check|hmm)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Choices:
    """What tells a choice among given letters apart from letters in prose, strongest first."""

    stated: re.Pattern[str]
    chosen: re.Pattern[str]
    alone: re.Pattern[str]
    mentioned: re.Pattern[str]
    corrected: re.Pattern[str]
    another: re.Pattern[str]


@lru_cache(maxsize=16)
def _choices(letters: str) -> _Choices:
    one = f"[{re.escape(letters.upper())}]"
    small = f"[{re.escape(letters.upper() + letters.lower())}]"
    last = r"(?=[\s.*\"'’]*(?:\Z|\n))"  # "(a) 12, (b) 15" answers the parts of a question
    # a bare letter is no option within a formula, and A and I are none before ordinary prose
    formula = r"(?!\s*(?:[=+/^_>×]|<[\s\d=]|-\s?\d|\*\s*\d|\\(?:times|cdot|frac|in|to)\b))"
    bare = rf"({one})(?![A-Za-z0-9'’]){formula}(?:(?<![AI])|{_PROSE_AFTER})"
    letter = rf"{_WRAPPING}{_OPTION_WORD}{_WRAPPING}(?:\(\s*({one}|{small}(?=\s*\){last[3:-1]}))\s*\)|\(?{bare})"
    return _Choices(
        stated=re.compile(_STATES + letter),
        chosen=re.compile(_CHOOSES + letter),
        alone=re.compile(
            rf"\W*(?:(?:[Ff]inal )?(?:[Aa]nswer|[Oo]ption|[Cc]hoice)\b\W*)?(?:({small})\W*|\(?({one})[.):]\)?\**\s.*)"
        ),
        mentioned=re.compile(
            rf"(?<![\w)])\(({one})\)|^[ \t*]*({one})[.)]\**[ \t]|\b(?:is|are|as|of|with)[: ]+\**({one})[.)]\**[ \t]+[A-Za-z]"
            rf"|\*\*\(?({one})\)?[.:]?\*\*|\b[Oo]ption \(?({one})\b",
            re.MULTILINE,
        ),
        corrected=re.compile(rf"[^\n]{{0,30}}?{_TURN}[^\n]{{0,60}}?{letter}"),
        another=re.compile(rf"[\s)*.}}$]*(?:,|\band|\bor|/|&)\s*(?:option )?\**(?:\({one}\)|{one}(?![A-Za-z0-9'’]))"),
    )


def final_choice(text: str, letters: str = "ABCDEFGHIJ") -> str | None:
    r"""The option letter a text settles on, in upper case; None where it settles on none or on several.

    A stated answer comes first ("The answer is (B).", \boxed{B}); a later one replaces it where the text reconsiders or
    concludes in between, not where it runs on to other questions. Then a choice in other words ("I'd go with option B"),
    a text or first line that is nothing but an option ("B) mitochondria"), and the one option that the last paragraph
    names. Letters within the reasoning, the article "a" and the pronoun "I" do not count.
    """
    choices = _choices(letters)
    plain = _first_block(_plain(text), choices.stated).strip()
    stated = _standing(plain, list(choices.stated.finditer(plain)))
    if stated:
        return _settled(plain, stated, choices)
    for whole in (plain, plain.split("\n", 1)[0]):
        alone = choices.alone.fullmatch(whole)
        if alone:
            return _letter(alone)
    opening = re.match(rf"\W*([{re.escape(letters)}])\b", plain)
    if opening and choices.corrected.match(plain, opening.end()):
        return _settled(plain, opening, choices)
    chosen = list(choices.chosen.finditer(plain))
    if chosen:
        return _settled(plain, chosen[-1], choices)
    mentioned = {_letter(match) for match in choices.mentioned.finditer(plain.rsplit("\n\n", 1)[-1])}
    return mentioned.pop() if len(mentioned) == 1 else None


def _standing(plain: str, stated: list[re.Match[str]]) -> re.Match[str] | None:
    """The statement that stands: the first, or the last of those that reconsider the one before."""
    standing = stated[0] if stated else None
    for earlier, later in pairwise(stated):
        if standing is earlier and _RECONSIDERS.search(plain, earlier.end(), later.end()):
            standing = later
    return standing


def _letter(match: re.Match[str]) -> str:
    return str(next(filter(None, match.groups()))).upper()


def _settled(plain: str, found: re.Match[str], choices: _Choices) -> str | None:
    """The letter found, or what it is corrected to; None where a second option stands beside it."""
    while correction := choices.corrected.match(plain, found.end()):
        found = correction
    return None if choices.another.match(plain, found.end()) else _letter(found)


# ---- patterns and schemas ------------------------------------------------------------------------------------------

PATTERN_SECONDS = 1.0
"""Longest a pattern may search one text: a pattern from data may backtrack for ever."""

PATTERN_STEPS = 100_000
"""Most atoms a pattern may compile to: `a{99999999}` alone would take more memory than most machines have."""

_FENCED = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


def matches_pattern(text: str, pattern: str) -> bool:
    r"""Whether a pattern is found anywhere in a text; anchor it (`\A…\Z`) to ask for the whole.

    Syntax: the `regex` package, a superset of `re`. A pattern that is malformed, that compiles to more than
    `PATTERN_STEPS`, or that takes longer than `PATTERN_SECONDS` is a ValueError: it has not answered, which is not the
    same as "does not match".
    """
    import regex

    if len(pattern) > PATTERN_STEPS // 10 or _compiled_steps(pattern) > PATTERN_STEPS:
        raise ValueError(f"the pattern is too long, or its repeats are: {pattern[:100]!r}")
    try:
        return regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        raise ValueError(f"the pattern took more than {PATTERN_SECONDS:g} s on {len(text)} characters: {pattern!r}") from None
    except (regex.error, RecursionError) as problem:
        raise ValueError(f"not a regular expression ({problem}): {pattern!r}") from None


def _compiled_steps(pattern: str) -> int:
    """Atoms of a pattern once every `{n}` is written out, which is how it is compiled."""
    sizes, last = [0], 1
    for token in re.finditer(r"\\.|\[(?:\\.|[^\]\\])*\]|\{(\d+)[^{}]*\}|.", pattern, re.DOTALL):
        if token[1]:
            sizes[-1] += last * (int(token[1][:9]) - 1)
        elif token.group() == "(":
            sizes.append(0)
        elif token.group() == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        else:
            last = 1
            sizes[-1] += 1
    return sum(sizes)


def fits_schema(text: str, schema: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Whether a text is JSON that a JSON schema accepts, and if not, why not.

    The JSON may stand alone or in the only fenced block of the text. The schema's `$ref` are followed within the schema
    only and its patterns are timed (see `matches_pattern`); a schema that is itself wrong is a ValueError.
    """
    try:
        value = json.loads(_json_of(text), parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        return False, f"not JSON: {problem}"
    return _violation(value, schema)


def _json_of(text: str) -> str:
    fenced = _FENCED.findall(text)
    return str(fenced[0]) if len(fenced) == 1 else text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _violation(value: object, schema: Mapping[str, Any]) -> tuple[bool, str | None]:
    from jsonschema.exceptions import SchemaError, best_match
    from jsonschema.validators import Draft202012Validator, extend, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    dialect = validator_for(schema, default=Draft202012Validator)
    try:
        dialect.check_schema(dict(schema))
        timed = extend(dialect, _TIMED)  # type: ignore[no-untyped-call]
        worst = best_match(timed(schema, registry=Registry()).iter_errors(value))
    except SchemaError as problem:
        raise ValueError(f"not a JSON schema: {problem.message}, at {problem.json_path}") from None
    except RecursionError:
        raise ValueError("the schema refers to itself without end") from None
    except Unresolvable as problem:
        raise ValueError(f"the schema refers to something outside itself: {problem.ref!r}") from None
    return (True, None) if worst is None else (False, f"{worst.json_path}: {worst.message}")


def _timed_pattern(validator: Any, pattern: str, value: Any, schema: object) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if isinstance(value, str) and not matches_pattern(value, pattern):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _timed_properties(validator: Any, patterns: Mapping[str, Any], value: Any, schema: object) -> Iterator[Any]:
    for pattern, subschema in patterns.items():
        for name in value if isinstance(value, dict) else ():
            if matches_pattern(name, pattern):
                yield from validator.descend(value[name], subschema, path=name, schema_path=pattern)


_TIMED = {"pattern": _timed_pattern, "patternProperties": _timed_properties}
