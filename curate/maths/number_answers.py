"""Read the number a model's free text settles on, and hold it against the number known to be right.

A reader answers None where the text settles on nothing, so that "wrong" and "unreadable" stay apart.
"""

import re
from decimal import Decimal

from curate.maths.plain_text import first_block, made_plain
from curate.maths.written_numbers import NUMBER_WORD, Number, numbers_in, spelled

_CUE = re.compile(
    r"(?P<boxed>\\(?:boxed|fbox)\s*\{)|(?P<hashes>####)"
    r"|(?P<answer>\banswers?\b[^.\n:=]{0,60}?(?:\b(?:is|are|was|be|equals|to)\b(?: equal to\b)?|[:=])\s*:?"
    r"|\b(?:die antwort (?:ist|lautet)|antwort ?:|la réponse est|réponse ?:|la respuesta es|respuesta ?:|la risposta è"
    r"|risposta ?:|a resposta é|resposta ?:|het antwoord is|antwoord ?:|odpowiedź to|odpowiedź ?:|cevap ?:|ответ ?[:—-])"
    r"|答案(?:是|为|為)?:?|^答:|答えは:?|الجواب(?: هو)?:?|الإجابة(?: هي)?:?)"
    r"|(?P<line>^[ \t*]*(?:a|ans)(?:\s?[:=]|\.(?=\s*[-$\d]))\**)",
    re.IGNORECASE | re.MULTILINE,
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
    plain = made_plain(str(gold))
    found = (read_number(plain) if _CUE.search(plain) else None) or next(numbers_in(plain), None)
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
    plain = first_block(made_plain(text), _CUE)
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
    if equals and any(numbers_in(plain, equals[-1], end)):
        start = equals[-1]
    found = [n for n in numbers_in(plain, start, end, cue) if not _denied(plain, n) and not _labels(plain, n)]
    if not found:
        return [spelled(word, cue) for word in NUMBER_WORD.finditer(plain, start, end)][:1]
    if len(found) > 1 and (cue == "boxed" or _joins(plain[found[0].end : found[1].start])):
        return found
    return 2 * found[:1] if _SOLUTIONS.search(plain, first, end) else found[:1]


def _joins(between: str) -> bool:
    """Whether what stands between two numbers makes them one range, list or sum."""
    return bool(re.fullmatch(rf"[\s$*)(°%]*(?:{_OPERATOR}|,(?: (?:and|or))?)[\s$*)(-]*", between, re.IGNORECASE))


def _corrected(plain: str, found: Number) -> Number:
    """The number that takes its place, as in "7 … no, 8", however often."""
    while correction := _CORRECTION.match(plain, found.end):
        better = next(numbers_in(plain, correction.end(), correction.end() + 60, found.cue), None)
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
    stated = [n for n in numbers_in(plain, start, end) if not _labels(plain, n) and not _denied(plain, n)]
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
    word = NUMBER_WORD.search(text) if len(text) < 40 else None
    return spelled(word, "last") if word and len(text.split()) <= 3 else None
