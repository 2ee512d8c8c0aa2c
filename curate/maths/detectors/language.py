"""Tell which language a text is written in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from curate.maths.detectors.text import letters

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

LANGUAGE_CONFIDENCE = 0.5
"""Least share of the text, weighted by the model's own probability, that must be in one language to name it."""

_CODES = """
    af sq ar hy az eu be bn bs bg ca zh hr cs da nl en et fi fr gl ka de el gu he hi hu is id ga it ja kn kk
    km ko lv lt mk ms ml mr mn ne no fa pl pt pa ro ru sr si sk sl es sw sv tl ta te th tr uk ur uz vi cy
"""
LANGUAGES = tuple(_CODES.split())
"""What `language` may answer: languages that models write and are asked in. Rare ones cost short texts their certainty."""

_NOT_PROSE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)|\\[a-zA-Z]+|https?://\S+|www\.\S+|[^\s@]{1,64}@[^\s@]+"
    r"|</?[a-zA-Z][^<>\n]{0,200}>|[@#]\w+",
    re.DOTALL,
)
_OWN_SCRIPT = (
    ("ja", re.compile(r"[\u3041-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7a3]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("th", re.compile(r"[\u0e01-\u0e5b]")),
    ("el", re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]")),
    ("he", re.compile(r"[\u05d0-\u05ea]")),
    ("hy", re.compile(r"[\u0531-\u058f]")),
    ("ka", re.compile(r"[\u10a0-\u10ff]")),
    ("ta", re.compile(r"[\u0b80-\u0bff]")),
)
"""Scripts that one common language writes; Japanese stands before Chinese because it borrows Han characters."""

_LANGUAGE_SAMPLE = 4_000
_LANGUAGE_PIECE = 100
_MIN_LETTERS = 12
_MIN_OWN_SCRIPT = 2


def language_code(text: str) -> str | None:
    """What `language` names, without how sure that is: no more of the text is read than decides it."""
    return _told(text, sure=True)[0]


def language(text: str) -> tuple[str | None, float]:
    """ISO 639-1 code of the language a text is written in, and how sure that is in [0, 1].

    None where there is too little prose to tell (code, formulas, links and numbers do not count) or where no language
    has most of it. The first 4,000 characters of prose are read. Model: py3langid, which ships with its package.
    """
    return _told(text, sure=False)


def _told(text: str, sure: bool) -> tuple[str | None, float]:
    """Code and confidence. sure: stop where the rest cannot change the code; the confidence is then of what was read."""
    prose = " ".join(_NOT_PROSE.sub(" ", text[: 4 * _LANGUAGE_SAMPLE]).split())[:_LANGUAGE_SAMPLE]
    count = letters(prose)
    own = None if prose.isascii() else _own_script(prose, count)
    if own:
        return own
    if count < _MIN_LETTERS or count < 0.6 * len("".join(prose.split())):
        return None, 0.0
    votes: dict[str, float] = defaultdict(float)
    left = len(prose)
    for piece in _pieces(prose):
        code, probability = _identifier().classify(piece.lower() if piece.isupper() else piece)
        votes[code] += float(probability) * len(piece)
        left -= len(piece)
        (code, weight), (_, second) = [*sorted(votes.items(), key=lambda vote: -vote[1]), ("", 0.0)][:2]
        if sure and weight >= max(LANGUAGE_CONFIDENCE * len(prose), 2 * (second + left)):
            break
    confidence = min(weight / len(prose), 1.0)
    return (code if confidence >= LANGUAGE_CONFIDENCE and weight >= 2 * second else None), confidence


def _own_script(prose: str, letters: int) -> tuple[str, float] | None:
    """The language whose own script most letters are in; Han letters go with Japanese where a tenth is kana."""
    counts = {code: len(script.findall(prose)) for code, script in _OWN_SCRIPT}
    if counts["ja"] * 10 >= counts["ja"] + counts["zh"]:
        counts["ja"] += counts.pop("zh")
    code = max(counts, key=lambda each: counts[each])
    if counts[code] < _MIN_OWN_SCRIPT or 2 * counts[code] <= letters:
        return None
    return code, min(counts[code] / letters, 1.0)


def _pieces(prose: str) -> Iterator[str]:
    """Stretches of about 100 characters, cut at blanks: a text in two languages then votes for both."""
    start = 0
    while start < len(prose):
        near = start + _LANGUAGE_PIECE
        blank = prose.find(" ", near, near + 40) if len(prose) - near > _LANGUAGE_PIECE // 2 else len(prose)
        end = near + 40 if blank < 0 else blank
        yield prose[start:end]
        start = end


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    """The model, limited to `LANGUAGES`; loading takes about half a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages(list(LANGUAGES))
    model.nb_ptc = np.ascontiguousarray(model.nb_ptc, dtype=np.float32)  # what it makes of its columns at every call
    return model
