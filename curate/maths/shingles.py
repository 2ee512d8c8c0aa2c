"""Texts as sets of shingles: hashes of runs of words or characters, in any script, computed for many texts at once.

Source: A. Broder, "On the resemblance and containment of documents", SEQUENCES 1997. Words are runs of letters, marks,
digits and connectors such as the underscore (Unicode UTS #18, annex C); scripts without spaces are words of one character
each, and so are symbols ($, +, emoji), a minus before a number and a percent sign after one. Other punctuation counts in runs of
characters alone. Case, compatibility forms and the width of gaps never count.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from curate.maths.memory import keep_freed

Unit = Literal["word", "character"]

AT_ONCE = 400_000  # characters hashed together: they stay in the processor's cache
MOST = 2048
"""Shingles kept of a text: of more, those of the smallest hashes, whose share in common is off by 0.02 at most times."""
GAP, LETTER, ALONE, UNKNOWN = 0, 1, 2, 255
BASE = 0x9E3779B97F4A7C15 | 1  # odd, so that it has an inverse modulo 2^64
INVERSE = pow(BASE, -1, 1 << 64)
WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class Sets(NamedTuple):
    """Sets of shingles, one behind the other."""

    hashes: np.ndarray
    """(M,) uint32, ascending within a set."""
    starts: np.ndarray
    """(N+1,) int64: where each set begins, and where the last one ends."""

    def sizes(self) -> np.ndarray:
        """Shingles of each set, (N,)."""
        return np.diff(self.starts)

    def only(self, rows: np.ndarray) -> "Sets":
        """Those of some rows, in their order."""
        counts = self.sizes()[rows]
        return Sets(self.hashes[ranges(self.starts[rows], counts)], starts_of(counts))


def starts_of(counts: np.ndarray) -> np.ndarray:
    """Where runs of so many begin, and where the last one ends, (N+1,) int64."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, ... of each run, one run behind the other, int64."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    steps: np.ndarray = np.arange(total) + np.repeat(starts - (ends - counts), counts)
    return steps


def shingle_sets(texts: Sequence[str | None], unit: Unit = "word", size: int = 3, most: int = MOST) -> Sets:
    """The shingles of each text: runs of `size` words or characters, all of it where it is shorter. None has none.

    most: how many are kept of a text.
    """
    keep_freed()
    parts = [_sets(part, unit, size, most) for part in _portions([None if text is None else plain(text) for text in texts])]
    if not parts:
        return Sets(np.zeros(0, np.uint32), np.zeros(1, np.int64))
    return Sets(np.concatenate([part.hashes for part in parts]), starts_of(np.concatenate([part.sizes() for part in parts])))


def plain(text: str) -> str:
    """The text without differences of case and of how its characters are composed."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def _portions(texts: Sequence[str | None]) -> Iterator[Sequence[str | None]]:
    begin = size = 0
    for place, text in enumerate(texts):
        size += len(text or "")
        if size >= AT_ONCE:
            yield texts[begin : place + 1]
            begin, size = place + 1, 0
    if begin < len(texts):
        yield texts[begin:]


def _sets(texts: Sequence[str | None], unit: Unit, size: int, most: int) -> Sets:
    """The sets of a portion of texts as `plain` makes them."""
    given = [text or "" for text in texts]
    if unit == "character":
        given = [" ".join(text.split()) for text in given]
    hashes, text_of = _word_runs(given, size) if unit == "word" else _character_runs(given, size)
    without = np.flatnonzero(np.bincount(text_of, minlength=len(texts)) == 0)
    bare = np.array([place for place in without.tolist() if texts[place] is not None], np.int64)
    alone = np.array([_hash_of(given[place]) for place in bare.tolist()], np.uint64)
    return _distinct(np.concatenate([hashes, alone]), np.concatenate([text_of, bare]), len(texts), most)


def _hash_of(text: str) -> int:
    """Of a text that holds no word at all."""
    import xxhash

    return int(xxhash.xxh3_64_intdigest(" ".join(text.split()).encode("utf-8", "surrogatepass")))


def _distinct(hashes: np.ndarray, text_of: np.ndarray, count: int, most: int) -> Sets:
    """The upper 32 bits of hashes, each once in its text, ascending."""
    packed = (text_of.astype(np.uint64) << np.uint64(32)) | (hashes >> np.uint64(32))
    packed.sort(kind="stable")  # merges what is in order already: three times as fast here
    packed = packed[np.r_[True, packed[1:] != packed[:-1]]] if len(packed) else packed
    starts = np.searchsorted(packed, np.arange(count + 1, dtype=np.uint64) << np.uint64(32))
    sizes = np.diff(starts)
    if (sizes > most).any():
        sizes = np.minimum(sizes, most)
        packed = packed[ranges(starts[:-1], sizes)]
    return Sets(packed.astype(np.uint32), starts_of(sizes))


def _word_runs(texts: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """(hash, text) of every run of `size` words, and of all words of a text that has fewer."""
    codes, text_starts = _codes(texts)
    kinds = _kinds(codes)
    kinds[_signs(codes, kinds)] = ALONE
    lettered = kinds == LETTER
    before = np.empty(len(kinds), bool)
    before[0], before[1:] = False, lettered[:-1]
    alone = kinds == ALONE
    starts = np.flatnonzero((lettered & ~before) | alone)
    after = np.empty(len(kinds), bool)
    after[-1], after[:-1] = False, lettered[1:]
    ends = np.flatnonzero((lettered & ~after) | alone) + 1
    words = _run_hashes(codes, starts, ends)
    first = np.searchsorted(starts, text_starts)
    counts = np.diff(np.r_[first, len(words)])
    text_of = np.repeat(np.arange(len(texts)), counts)
    runs = max(len(words) - size + 1, 0)
    whole = text_of[:runs] == text_of[size - 1 :]
    hashes = np.zeros(runs, np.uint64)
    for place in range(size):
        hashes += words[place : place + runs] * np.uint64(pow(BASE, place, 1 << 64))
    short = np.flatnonzero((counts > 0) & (counts < size))
    few = np.zeros(len(short), np.uint64)
    for place in range(size - 1):
        has = counts[short] > place
        few[has] += words[first[short][has] + place] * np.uint64(pow(BASE, place, 1 << 64))
    return mixed(np.concatenate([hashes[whole], few])), np.concatenate([text_of[:runs][whole], short])


def _character_runs(texts: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """(hash, text) of every run of `size` characters, and of all of a text that has fewer."""
    codes, text_starts = _codes(texts)
    lengths = np.array([len(text) for text in texts])
    runs = np.maximum(lengths - size + 1, (lengths > 0).astype(np.int64))
    at = ranges(text_starts, runs)
    text_of = np.repeat(np.arange(len(texts)), runs)
    ends = at + np.minimum(size, lengths[text_of])
    return _run_hashes(codes, at, ends), text_of


def _codes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Code points of all texts with a gap after each, uint8 where all are ASCII, else uint32; where each text begins."""
    joined = "\n".join(texts) + "\n"
    codes = (
        np.frombuffer(joined.encode("ascii"), np.uint8)
        if joined.isascii()
        else np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4")
    )
    return codes, starts_of(np.array([len(text) + 1 for text in texts]))[:-1]


def _signs(codes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Where a hyphen is a minus and where a percent sign follows a digit: without them a number is another one."""
    hyphens, percents = (np.flatnonzero(codes == ord(mark)) for mark in "-%")
    first, last = ord("0"), ord("9")
    after, before = codes[hyphens + 1], codes[percents - 1]  # a gap follows every text, and so precedes all but the first
    free = kinds[hyphens - 1] != LETTER
    minus = hyphens[free & (after >= first) & (after <= last)]
    return np.concatenate([minus, percents[(before >= first) & (before <= last)]])


def _kinds(codes: np.ndarray) -> np.ndarray:
    """GAP, LETTER or ALONE for each code point."""
    table = _kind_table()
    kinds: np.ndarray = table[codes]
    if codes.dtype != np.uint8 and (new := np.unique(codes[kinds == UNKNOWN])).size:
        table[new] = [_kind(code) for code in new.tolist()]
        kinds = table[codes]
    return kinds


@cache
def _kind_table() -> np.ndarray:
    """Kinds by code point, filled in as they are met."""
    table = np.full(0x110000, UNKNOWN, np.uint8)
    table[:128] = [_kind(code) for code in range(128)]
    return table


def _kind(code: int) -> int:
    category = unicodedata.category(chr(code))
    if any(low <= code <= high for low, high in WITHOUT_SPACES):
        return ALONE if category[0] in "LMNS" else GAP
    if category[0] in "LMN":
        return LETTER
    if category == "Pc":
        return LETTER
    return ALONE if category[0] == "S" else GAP


def _run_hashes(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A hash of the characters of each run, (R,) uint64."""
    up, down = _powers(len(codes) + 1)
    drawn = _drawn()[codes] if codes.dtype == np.uint8 else mixed(codes)
    sums = np.empty(len(codes) + 1, np.uint64)
    sums[0] = 0
    np.cumsum(drawn * up[: len(codes)], out=sums[1:])
    return mixed((sums[ends] - sums[starts]) * down[starts] + (ends - starts).astype(np.uint64))


@cache
def _drawn() -> np.ndarray:
    return mixed(np.arange(256, dtype=np.uint64))


_POWERS: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers of BASE and of INVERSE modulo 2^64, `count` of each at least."""
    room = 1 << max(count - 1, 1).bit_length()
    if room not in _POWERS:
        made = []
        for base in (BASE, INVERSE):
            powers = np.full(room, base, np.uint64)
            powers[0] = 1
            made.append(np.multiply.accumulate(powers))
        if room > 4 * AT_ONCE:  # of one huge text: not worth keeping
            return made[0], made[1]
        _POWERS[room] = (made[0], made[1])
    return _POWERS[room]


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers whose bits all depend on all bits of the old ones. Source: splitmix64, G. Steele et al., OOPSLA 2014."""
    z = numbers.astype(np.uint64)
    z += np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z
