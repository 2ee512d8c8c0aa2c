"""Cut a text into sentences that, put together again, are the text to the character.

Boundaries are those of Unicode Standard Annex 29, section 5 (sentence boundaries), whose rules stand beside the patterns
below, with five amendments: a fenced code block is one sentence; blank lines belong to the sentence before them, the mark of
a list's entry to the entry; a few abbreviations end none; and a number after a stop begins a sentence even where small letters
follow, since half of mathematics does. A line break always ends a sentence, as in the annex.
"""

import regex

UPPER, LOWER, LETTER, DIGIT = (rf"\p{{Sentence_Break={name}}}" for name in ("Upper", "Lower", "OLetter", "Numeric"))
STOP, END, ON = (rf"\p{{Sentence_Break={name}}}" for name in ("ATerm", "STerm", "SContinue"))
CLOSE, SPACE, SEPARATOR = (rf"\p{{Sentence_Break={name}}}" for name in ("Close", "Sp", "Sep"))
IGNORED = r"[\p{Sentence_Break=Extend}\p{Sentence_Break=Format}]*+"  # SB5
LINE = rf"(?:\r\n|[\r\n{SEPARATOR}])"  # SB3, SB4
LINES = rf"{LINE}(?:{SPACE}*+{LINE})*+"
AFTER = rf"(?:{CLOSE}{IGNORED})*+(?:{SPACE}{IGNORED})*+"  # SB9, SB10
GOES_ON = rf"[{ON}{STOP}{END}]"  # SB8a
SMALL_FIRST = rf"[^{LETTER}{UPPER}{LOWER}{DIGIT}{STOP}{END}\r\n{SEPARATOR}]*+{LOWER}"  # SB8, which passes over numbers
BOUNDARY = regex.compile(
    rf"{LINES}"
    rf"|{END}{IGNORED}{AFTER}(?!{GOES_ON})(?:{LINES})?+"  # SB11
    rf"|{STOP}{IGNORED}"
    rf"(?!{DIGIT})"  # SB6
    rf"(?!(?<=[{UPPER}{LOWER}]{IGNORED}{STOP}{IGNORED}){UPPER})"  # SB7
    rf"{AFTER}(?!{SMALL_FIRST})(?!{GOES_ON})(?:{LINES})?+"
)
FENCED = regex.compile(
    r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})[^\n]*\n"
    r"(?:(?! {0,3}(?P=fence)[`~]*[ \t\r]*$)[^\n]*\n)*+"
    r"[^\n]*\n?",
    regex.MULTILINE,
)
UNFINISHED = regex.compile(
    r"^[ \t>]*(?:[*+-][ \t]+)?\(?(?:\d{1,3}|[A-Za-z])\.[ \t]*\z"  # the mark of a list's entry
    r"|\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|e\.g|i\.e|cf|approx|Fig|Eq|z\.B|d\.h|bzw|Sra|Mme)\.[ \t]*\z",
    regex.MULTILINE,
)
COUNTED = regex.compile(r"\b(?:No|Nr|Nos|pp?|vol|ch|sec|art|fig|eq|ca|cap|§)\.[ \t]*\z", regex.IGNORECASE)
"""Abbreviations before a number."""
LONGEST_MARK = 24  # characters in which a mark or an abbreviation is looked for


def sentence_ends(text: str) -> list[int]:
    """Where each sentence ends, in characters, ascending; the last is the length of the text. Empty for an empty text.

    A sentence begins where the one before it ends, and blanks after it are part of it: nothing is left out.
    """
    if not text:
        return []
    fences = [block.span() for block in FENCED.finditer(text)] if "```" in text or "~~~" in text else []
    ends = {found.end() for found in BOUNDARY.finditer(text)} | {end for _, end in fences}
    for begin, end in fences:
        ends -= set(range(begin + 1, end))
    inner = sorted(ends - {len(text)})
    if inner and not text[: inner[0]].strip():  # blank lines before the first sentence
        del inner[0]
    return [end for end in inner if not _goes_on(text, end)] + [len(text)]


def _goes_on(text: str, end: int) -> bool:
    """Whether what ends there is a mark or an abbreviation, and no sentence."""
    begin = max(0, end - LONGEST_MARK)
    return bool(UNFINISHED.search(text, begin, end)) or (text[end].isdigit() and bool(COUNTED.search(text, begin, end)))


def sentences(text: str) -> list[str]:
    """The sentences themselves; joined, they are the text."""
    ends = sentence_ends(text)
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
