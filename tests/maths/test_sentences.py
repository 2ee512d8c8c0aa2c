"""Sentences: where they end in any script, and that together they are the text."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from curate.maths.sentences import sentence_ends, sentences

CASES = {
    "latin": ["It rains. ", "Take an umbrella! ", "Or not?"],
    "no_final_punctuation": ["It rains. ", "Take an umbrella"],
    "closing_marks": ["He said: “It rains.” ", "(She nodded.) ", "They left."],
    "numbers_and_names": ["Version 3.5 costs $2.50 at example.com today. ", "The U.S.A. won."],
    "small_letter_goes_on": ["It rains (approx. 3 mm, e.g. in May) a lot. ", "Yes."],
    "sums": ["16 - 3 = 13 are left. ", "13 * 2 = 26 dollars. ", "(3 more.) ", "Done"],
    "counted": ["See No. 5 and p. 12 there. ", "No. ", "It is not."],
    "abbreviations": ["Dr. Smith met Mrs. Jones. ", "They spoke."],
    "ellipsis": ["Well... maybe. ", "Who knows?! ", "Nobody..."],
    "lines": ["A heading\n", "A line without a stop\n", "another"],
    "blank_lines": ["First.\n\n\n", "Second.\r\n\r\n", "Third."],
    "list": ["1. Mix the flour.\n", "2. Bake it.\n", "  a. Slowly.\n", "- Eat."],
    "arabic": ["هل تمطر؟ ", "نعم، كثيرًا. ", "خذ مظلة!"],
    "chinese": ["今天下雨。", "带伞了吗？", "带了！"],
    "japanese": ["「雨だ。」", "傘は？"],
    "hindi": ["बारिश हो रही है। ", "छाता लो।"],
    "emoji": ["Rain! ", "🌧️👩‍👩‍👧 Stay in. ", "🙂"],
    "combining": ["Cafe\u0301. ", "E\u0301clair!\u0308 ", "Fin."],
    "code": ["Run this:\n", "```python\nx = 1. \nprint('a. B')\n\n# end.\n```\n", "It prints. ", "Done."],
    "open_code": ["Run:\n", "~~~\nx. Y\n```\nz. W"],
    "inline_code": ["Use ```a. ", "B``` here. ", "Yes."],
    "leading_blanks": ["\n\n  Hello there. ", "Hi."],
    "only_blanks": [" \n\n "],
}


@pytest.mark.parametrize("expected", CASES.values(), ids=CASES)
def test_sentences_end_where_readers_would_say(expected: list[str]) -> None:
    assert sentences("".join(expected)) == expected


PIECES = [
    *"aAbBZé中あя٣09",
    *".!?。！？؟।…․",
    *",;:،-–",
    *"\"'«»()“”」",
    *" \t\u00a0\u3000\n\r\u2028\u0085",
    *"\u0301\u200d\u00ad\ufeff🙂",
    "```",
    "\n```\n",
    "\n~~~\n",
    "1. ",
    "Dr. ",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=24).map("".join)


@given(TEXTS | st.text())
def test_together_they_are_the_text_and_none_is_empty(text: str) -> None:
    ends = sentence_ends(text)
    assert "".join(sentences(text)) == text
    assert ends == sorted(set(ends)) and (not ends or (ends[0] > 0 and ends[-1] == len(text)))


@given(TEXTS | st.text())
def test_no_sentence_begins_within_a_character_as_readers_see_it(text: str) -> None:
    graphemes = {found.end() for found in regex.finditer(r"\X", text)}
    assert set(sentence_ends(text)) <= graphemes


def break_of(character: str) -> str:
    """The Sentence_Break property of a character."""
    names = ("CR", "LF", "Sep", "Extend", "Format", "Sp", "Lower", "Upper", "OLetter", "Numeric", "ATerm", "STerm", "Close")
    for name in (*names, "SContinue"):
        if regex.fullmatch(rf"\p{{Sentence_Break={name}}}", character):
            return name
    return "Other"


def slow_ends(text: str) -> list[int]:
    """The annex rule by rule, looking at what stands before and after each place."""
    kinds = [break_of(character) for character in text]
    return [place for place in range(1, len(text)) if breaks(kinds, place)] + [len(text)]


def breaks(kinds: list[str], place: int) -> bool:
    lines, ignored = ("Sep", "CR", "LF"), ("Extend", "Format")
    if kinds[place - 1] in lines:
        return not (kinds[place - 1] == "CR" and kinds[place] == "LF")  # SB3, SB4
    if kinds[place] in ignored:
        return False  # SB5
    before = [kind for at, kind in enumerate(kinds[:place]) if kind not in ignored or at == 0 or kinds[at - 1] in lines]
    after = [kind for kind in kinds[place:] if kind not in ignored]
    stripped, spaces, closes = list(before), 0, 0
    while stripped and stripped[-1] == "Sp":
        stripped, spaces = stripped[:-1], spaces + 1
    while stripped and stripped[-1] == "Close":
        stripped, closes = stripped[:-1], closes + 1
    if not stripped or stripped[-1] not in ("ATerm", "STerm"):
        return False  # SB998
    if stripped[-1] == "ATerm":
        if not spaces and not closes and after[0] == "Numeric":
            return False  # SB6
        if not spaces and not closes and stripped[-2:-1] in (["Upper"], ["Lower"]) and after[0] == "Upper":
            return False  # SB7
        letters = [kind for kind in after if kind in ("OLetter", "Upper", "Lower", "ATerm", "STerm", *lines)]
        if letters[:1] == ["Lower"]:
            return False  # SB8
    if after[0] in ("SContinue", "ATerm", "STerm"):
        return False  # SB8a
    if not spaces and after[0] in ("Close", "Sp", *lines):
        return False  # SB9
    return after[0] not in ("Sp", *lines)  # SB10, SB11


WITHOUT_AMENDMENTS = st.lists(st.sampled_from([piece for piece in PIECES if len(piece) == 1]), min_size=1, max_size=16)


@given(WITHOUT_AMENDMENTS.map("".join))
def test_boundaries_are_those_of_the_annex_but_for_the_amendments(text: str) -> None:
    mine, annex = set(sentence_ends(text)), set(slow_ends(text))
    for end in annex - mine:
        blank_before = not text[:end].strip()
        blank_line = regex.match(r"\p{Sentence_Break=Sp}*(?:\r\n|[\r\n\p{Sentence_Break=Sep}])", text, pos=end)
        marked = regex.search(r"^[ \t>]*(?:[*+-][ \t]+)?\(?(?:\d{1,3}|[A-Za-z])\.[ \t]*\Z", text[:end], regex.MULTILINE)
        assert blank_before or blank_line or marked
    for end in mine - annex:
        before_number = (
            r"[^\p{Sentence_Break=OLetter}\p{Sentence_Break=Upper}\p{Sentence_Break=Lower}]*?\p{Sentence_Break=Numeric}"
        )
        assert regex.match(before_number, text, pos=end)


@pytest.mark.parametrize("piece", ["\n", ". ", "Dr. ", "1. ", ".\u0301", "```\n", ")", ".( ", "…"])
def test_long_runs_of_marks_are_no_trap(piece: str) -> None:
    assert sentence_ends(piece * 40_000)[-1] == 40_000 * len(piece)  # in quadratic time this would never end
