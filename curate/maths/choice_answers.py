"""Read the option letter that a model's free text settles on; None where it settles on none or on several."""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from curate.maths.plain_text import first_block, made_plain

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
    plain = first_block(made_plain(text), choices.stated).strip()
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
