"""Tell how much of a text repeats itself."""

import re
from itertools import pairwise

import numpy as np

from curate.maths.detectors.text import SPACELESS, unmarked

REPETITIVE = 0.4
"""`repetition` at or above this is degenerate: songs, lists and code stay below it, loops and doubled answers do not."""

LOOP_WORDS = 8
"""Words in a row that must come back before they count as a repeat; shorter ones recur in any fluent text."""

_TOKEN = re.compile(rf"[{SPACELESS}]|\d+(?:[.,:/\-]\d+)*|[^\W\d_]+|[!?！？]|[^\w\s\u0000-\u2bff\u3000-\u303f\uff00-\uffef]")
_ASCII_TOKEN = re.compile(r"\d+(?:[.,:/\-]\d+)*|[^\W\d_]+|[!?]")  # the same of ASCII, many times as fast
_LONG_WORD = 30
_COUNT_WORDS = {
    word: number
    for words_in_order in (
        "one two three four five six seven eight nine ten eleven twelve",
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
    )
    for number, word in enumerate(words_in_order.split(), 1)
}


def repetition(text: str) -> float:
    """Share of a text's words, in [0, 1] by characters, that repeat eight or more in a row already written.

    At `REPETITIVE` or above the text is degenerate. First occurrences count as new, so a text written twice has 0.5 and
    an endless loop nears 1. Punctuation is passed over, which leaves tables and boards alone; numbers that count up by one
    ("Step 1: … Step 2: …") do not make a line new. Letters of an overlong word, emoji, and Han and kana characters
    (sixteen in a row) count as words.
    """
    tokens = _without_counters(_words_or_signs(text))
    spaceless = 2 * sum(len(token) == 1 and token.isalpha() for token in tokens) > len(tokens)
    size = 2 * LOOP_WORDS if spaceless and len(tokens) > 4 * LOOP_WORDS else LOOP_WORDS
    if len(tokens) <= size:
        return 0.0
    lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
    return float(lengths[_repeated(tokens, size)].sum() / lengths.sum())


def _tokens(text: str) -> list[str]:
    lowered = unmarked(text.lower())
    found: list[str] = (_ASCII_TOKEN if lowered.isascii() else _TOKEN).findall(lowered)
    if max(map(len, found), default=0) <= _LONG_WORD:
        return found
    return [piece for token in found for piece in (token if len(token) > _LONG_WORD else (token,))]


def _words_or_signs(text: str) -> list[str]:
    """The words of a text; of one that is hardly anything but signs, every sign."""
    signs = "".join(text.split())
    found = _tokens(text)
    return found if sum(map(len, found)) > 0.05 * len(signs) else list(signs)


def _without_counters(tokens: list[str]) -> list[str]:
    """The tokens with every number that is one more than the number before it, and that number, made alike."""
    counts = [(i, count) for i, token in enumerate(tokens) if (count := _count(token)) is not None]
    alike = list(tokens)
    for (i, one), (j, next_one) in pairwise(counts):
        if next_one == one + 1:
            alike[i] = alike[j] = "#"
    return alike


def _count(token: str) -> int | None:
    if token.isdigit():
        return int(token) if len(token) <= 9 and token.isascii() else None
    return _COUNT_WORDS.get(token)


def _repeated(tokens: list[str], size: int) -> np.ndarray:
    """Which tokens lie in a window of `size` tokens seen before, (T,) bool; windows are compared by a 64-bit hash."""
    numbers: dict[str, int] = {}
    ids = np.fromiter((numbers.setdefault(t, len(numbers) + 1) for t in tokens), dtype=np.uint64, count=len(tokens))
    windows = np.zeros(len(tokens) - size + 1, dtype=np.uint64)
    for offset in range(size):
        windows = windows * np.uint64(0x9E3779B97F4A7C15) + ids[offset : offset + len(windows)]
    seen = np.ones(len(windows), dtype=bool)
    seen[np.unique(windows, return_index=True)[1]] = False
    covered = np.zeros(len(tokens) + 1, dtype=np.int64)
    np.add.at(covered, np.flatnonzero(seen), 1)
    np.add.at(covered, np.flatnonzero(seen) + size, -1)
    return np.cumsum(covered[:-1]) > 0
