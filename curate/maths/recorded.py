"""Read verdicts that judges gave elsewhere, as their published prompts laid them out; null where a text leaves it open.

This is for the import of recorded verdicts alone. What our own judges say is read by `verdicts`, which is strict.

Layouts: an answer by the choice alone, with or without remarks after it, and reasons that end in "Therefore, Output (a) is
better.", both as in Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following" (LLMBar), 2023,
arXiv:2310.07641, figures 6 to 15; a mark for each side, or both marks on the first line, as in Zheng et al., "Judging
LLM-as-a-Judge with MT-Bench and Chatbot Arena", 2023, arXiv:2306.05685, figure 10.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from curate.maths.verdicts import after_reasoning

Layout = Literal["exact", "choice", "conclusion", "ratings"]
"""How a recorded verdict is laid out.

exact: the listed text and nothing else. choice: begins with the choice, remarks may follow. conclusion: reasons, and a
sentence that says which is better, at the end if several do. ratings: a mark for each side, the higher one wins.
"""
NO_VERDICT, TWO_VERDICTS, NOT_LISTED, NO_RATINGS = "no verdict", "contradicts itself", "not listed", "not two marks"

_MARKUP = re.compile(r"[*`_]+|\\(?=[()\[\]])")
_HEAD = r"(?:(?:my|the|final|better|best)\s+)*(?:answer|choice|verdict|decision|winner|output|response|one)(?:\s+is)?\s*[:：]?\s+"
_BETTER = (
    r"(?:clearly |slightly |much |significantly |overall )?(?:the |a )?(?:\w+ly )?(?:better|best|superior|preferable|preferred)"
)
_WHAT = r"(?: (?:output|response|answer|choice|option|one))?"
_REASON = r",?\s+(?:because|since|as|for|than|overall|in this case)\b"
_STOP = rf"(?=\s*(?:[.!;:\n\"”')]|$)|{_REASON})"
_THUS = (
    r"(?:(?:therefore|thus|hence|so|overall|consequently|ultimately|accordingly|finally|in conclusion|in summary|to conclude"
    r"|as a result|for (?:this|these) reasons?)\b\s*[,:]?\s+)?"
    r"(?:(?:based on|considering|given|after|taking)\b(?:(?!\b(?:if|unless|when|whether)\b)[^.!?;\n]){1,200}?,\s+)?"
    r"(?:(?:it is clear|(?:i|we)(?: would| have to| must)? (?:conclude|believe|think|find|judge|say|determine)) (?:that )?)?"
)
_TURN = (
    r"(?:\bno\s?[,:;.!…–—-]|\b(?:wait|actually|sorry|oops|hmm|correction|scratch that|make that|i mean|or rather"
    r"|on second thoughts?)\b)[\s,:;.!…–—-]{1,5}"
)
"""Taking back what was said."""
_OPENING = r"(?:^|(?<=[.!?:\n])|(?<=[.!?:]\"))[\s\"“'#>-]*"  # of a sentence
_SENTENCE = re.compile(r"[.!?:\n]\s*\w|^\s*\w")  # one more begins
_MARK = re.compile(r"(?:(?:score|rating|mark)\s*[:=]\s*)?(-?\d+(?:\.\d+)?)(?:\s*/\s*\d+)?\.?", re.IGNORECASE)
_MARKS = re.compile(r"(-?\d+(?:\.\d+)?)(?:/\d+)?(?:\s*[,;]\s*|\s+)(-?\d+(?:\.\d+)?)(?:/\d+)?")


class Told(NamedTuple):
    """What a recorded verdict says."""

    p: float | None
    """Probability that the side shown first is better; None where that is left open or nothing is said."""
    why: str | None = None
    """Why it is left open; None for a verdict, and where there is no text at all."""


def read(value: Any, layout: Layout, known: Mapping[str, float]) -> Told:
    """The verdict in a recorded text, or in a pair of marks.

    known: texts that name a side, or a tie, and the probability that each gives to the side shown first.
    """
    if layout == "ratings":
        return read_ratings(value)
    text = str(value).strip() if value is not None else ""
    if not text:
        return Told(None)
    if text in known:
        return Told(known[text])
    if layout == "exact":
        return Told(None, NOT_LISTED)
    plain = _MARKUP.sub("", text[after_reasoning(text) :]).strip()
    return (_choice if layout == "choice" else _conclusion)(plain, _names(tuple(known)), known)


def read_ratings(value: Any) -> Told:
    """The higher mark wins, equal marks are a tie. value: two marks, or a text with both on its first line."""
    if isinstance(value, str):
        first = value.strip().split("\n")[0].strip()
        if not first:
            return Told(None)
        found = _MARKS.fullmatch(_MARKUP.sub("", first))
        marks: Sequence[Any] = found.groups() if found else ()
    else:
        marks = value if isinstance(value, Sequence) else ()
    if value is None or (marks and all(mark is None or mark == "" for mark in marks)):
        return Told(None)
    numbers = [_number(mark) for mark in marks]
    if len(numbers) != 2 or None in numbers:
        return Told(None, NO_RATINGS)
    first_mark, second_mark = numbers
    assert first_mark is not None and second_mark is not None
    return Told(0.5 if first_mark == second_mark else float(first_mark > second_mark))


def _number(mark: Any) -> float | None:
    if isinstance(mark, bool) or mark is None:
        return None
    found = _MARK.fullmatch(_MARKUP.sub("", str(mark)).strip())
    return float(found[1]) if found else None


class _Names(NamedTuple):
    """Patterns for the ways to name a choice."""

    choice: re.Pattern[str]
    """A line that begins with a choice and goes on as one does."""
    alone: re.Pattern[str]
    """As `choice`, but says nothing of being better."""
    statement: re.Pattern[str]
    """A sentence that says which is better."""
    turned: re.Pattern[str]
    """A choice after words that take back what was said."""
    worth: Mapping[str, str]
    """The listed text of each group."""


@lru_cache(maxsize=64)
def _names(listed: tuple[str, ...]) -> _Names:
    worth = {f"c{place}": name for place, name in enumerate(listed)}
    ordered = sorted(worth.items(), key=lambda item: -len(item[1]))
    either = "|".join(f"(?P<{group}>{_name(name)})" for group, name in ordered)
    after = rf"\s*[.!)\]\"”']*\s*$|\s*[.!;:,\-–—]+\s+\S|\s*\(|{_REASON}"
    begin = rf"[\s\"“'#>-]*(?:{_HEAD})?[\"“']?(?:{either})[\"”']?"
    statement = rf"{_OPENING}(?:{_TURN}){{0,3}}{_THUS}[\"“']?(?:{either})[\"”']? is {_BETTER}{_WHAT}{_STOP}"
    alone, choice = rf"{begin}(?={after})", rf"{begin}(?={after}|\s+is {_BETTER}\b)"
    patterns = {"choice": choice, "alone": alone, "statement": statement, "turned": rf"{_TURN}{choice}"}
    return _Names(**{name: re.compile(text, re.IGNORECASE | re.MULTILINE) for name, text in patterns.items()}, worth=worth)


def _name(listed: str) -> str:
    """The pattern of a name: `Output (a)` is also (a), [a], Output a, and a alone."""
    words = re.findall(r"\w+", listed)
    if words and len(words[-1]) == 1:
        front = r"\s*".join(re.escape(word) for word in words[:-1])
        key = re.escape(words[-1])
        alone = rf"(?<!\w){key}(?!\.\s*\S)" if key.isdigit() else rf"(?<!\w){key}"  # `1. ...` begins a list
        named = rf"{front}\s*[\[(]*{key}[\])]*|" if front else ""
        return rf"(?:{named}[\[(]+{key}[\])]+|{alone}(?!\w))"
    return rf"(?<!\w){re.escape(listed)}(?!\w)"


def _named(match: re.Match[str], names: _Names) -> str:
    return next(names.worth[group] for group, text in match.groupdict().items() if text is not None)


def _choice(text: str, names: _Names, known: Mapping[str, float]) -> Told:
    """What the text begins with, unless a later line or sentence chooses something else."""
    first, *later = text.split("\n")
    begins = names.choice.match(first)
    if not begins:
        return Told(None, NO_VERDICT)
    chosen = known[_named(begins, names)]
    others = [*(names.choice.match(line) for line in later), *names.statement.finditer(text), *names.turned.finditer(text)]
    return Told(None, TWO_VERDICTS) if any(known[_named(one, names)] != chosen for one in others if one) else Told(chosen)


def _conclusion(text: str, names: _Names, known: Mapping[str, float]) -> Told:
    """What the last sentence says; else what every sentence says that says which is better."""
    said = list(names.statement.finditer(text))
    if said and not _SENTENCE.search(text, said[-1].end()):
        return Told(known[_named(said[-1], names)])
    begins = names.alone.match(text.split("\n")[0])
    worth = {known[_named(one, names)] for one in [*said, *names.turned.finditer(text), begins] if one}
    if not worth:
        return Told(None, NO_VERDICT)
    return Told(worth.pop()) if len(worth) == 1 else Told(None, TWO_VERDICTS)
