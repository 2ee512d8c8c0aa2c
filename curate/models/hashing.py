"""Lexical embeddings: texts that share words and spellings lie near each other. No model, no download.

Words, pairs of neighbouring words and runs of characters are counted, and each kind of them is added to or taken from one
number of the vector, both told by its hash. Everything is whole numbers until the last division, so that every machine
makes the same vectors. Source: K. Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009.
"""

import math
import unicodedata
from collections.abc import Sequence

import numpy as np

from curate.errors import UsageError
from curate.models.numbers import Vectors
from curate.models.spec import ModelSpec

DIMENSIONS = 512
SCHEME = 1
"""Raised whenever the same text would get another vector."""
CHARACTER_RUNS = (3, 4)
"""Lengths of the character n-grams, the space between words among them."""
WORD, WORD_PAIR = 0, 1  # kinds of features; character runs come after
WEIGHTS = (2.0, 2.0, 1.0, 1.0)
"""Of words, pairs of words, and each length of character runs."""
UNIT = 1024  # logarithms are rounded to this part of one: sums of whole numbers are the same in any order
AT_ONCE = 400_000  # characters hashed together: bounds memory at about 150 MB
KIND_BITS, HASH_BITS = 2, 40  # of a feature's 64 bits; the rest number the text
TEXTS_AT_ONCE = 1 << (64 - KIND_BITS - HASH_BITS)
BASE = 0x9E3779B97F4A7C15 | 1  # odd, so that it has an inverse modulo 2^64
INVERSE = pow(BASE, -1, 1 << 64)
OPTIONS = frozenset({"dimensions"})


class HashingEmbed:
    """Embeddings by hashing. Option `dimensions`: numbers in a vector, 512 if not given."""

    kind_of_likeness = "lexical"
    """What nearness of two vectors means: shared words and spelling, not shared sense."""

    def __init__(self, spec: ModelSpec) -> None:
        unknown = sorted(spec.options.keys() - OPTIONS)
        if unknown:
            raise UsageError(f"model {spec.name}, options: backend hashing knows `dimensions` alone, got {', '.join(unknown)}")
        self.dimensions = dimensions_of(spec)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, (N, D) float32. A text of no words has one of its own, far from all others."""
        parts = [embed([plain(text) for text in part], self.dimensions) for part in portions(texts)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimensions), np.float32)

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """The same; every text is read as a whole."""
        return Vectors(self.encode(texts), np.zeros(len(texts), np.float32))


def dimensions_of(spec: ModelSpec) -> int:
    """The option `dimensions`, checked."""
    told = spec.options.get("dimensions") or DIMENSIONS
    if not isinstance(told, int) or isinstance(told, bool) or not 16 <= told <= 65536:
        raise UsageError(f"model {spec.name}, options, dimensions: a whole number from 16 to 65536, got {told!r}")
    return told


def portions(texts: Sequence[str]) -> list[Sequence[str]]:
    """The texts in portions of about AT_ONCE characters."""
    ends = np.cumsum([len(text) + 1 for text in texts])
    starts = [0]
    while starts[-1] < len(texts):
        before = ends[starts[-1] - 1] if starts[-1] else 0
        end = int(np.searchsorted(ends, before + AT_ONCE, side="right"))
        starts.append(min(max(end, starts[-1] + 1), starts[-1] + TEXTS_AT_ONCE, len(texts)))
    return [texts[a:b] for a, b in zip(starts, starts[1:], strict=False)]


def plain(text: str) -> str:
    """The text without differences of case and of how its characters are composed."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def embed(texts: Sequence[str], dimensions: int) -> np.ndarray:
    """Vectors of unit length, (N, D) float32, of texts as `plain` makes them."""
    text_of, kind, feature = features(texts)
    shift = np.uint64(KIND_BITS + HASH_BITS)
    packed = (text_of.astype(np.uint64) << shift) | (kind.astype(np.uint64) << np.uint64(HASH_BITS))
    packed |= feature >> np.uint64(64 - HASH_BITS)
    packed.sort()
    first = np.flatnonzero(np.r_[True, packed[1:] != packed[:-1]]) if len(packed) else np.zeros(0, np.int64)
    times, packed = np.diff(np.r_[first, len(packed)]), packed[first]
    hashed = packed & np.uint64((1 << HASH_BITS) - 1)
    sign = 1 - 2 * (hashed & np.uint64(1)).astype(np.int64)
    place = ((hashed >> np.uint64(1)) % np.uint64(dimensions)).astype(np.int64)
    which = ((packed >> np.uint64(HASH_BITS)) & np.uint64((1 << KIND_BITS) - 1)).astype(np.int64)
    amount = sign * worth(times, which)
    at = (packed >> shift).astype(np.int64) * dimensions + place
    sums = np.bincount(at, amount, minlength=len(texts) * dimensions).reshape(len(texts), dimensions)
    sums[:, 0] += np.where(sums.any(axis=1), 0, UNIT)
    unit: np.ndarray = (sums / np.sqrt((sums * sums).sum(axis=1, keepdims=True))).astype(np.float32)
    return unit


def worth(times: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """What so many of one feature count: weight (1 + ln times), in whole parts of UNIT."""
    most = int(times.max(initial=1))
    distinct = np.unique(times) if most > 100_000 else np.arange(1, most + 1)
    logs = np.array([1 + math.log(n) for n in distinct.tolist()])
    table = np.round(np.outer(WEIGHTS, logs) * UNIT).astype(np.int64)
    found: np.ndarray = table[kind, np.searchsorted(distinct, times)]
    return found


def features(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(text, kind, hash) of every feature of every text, as often as it occurs; (M,) int64, int64, uint64."""
    codes, text_of = letters(texts)
    words = codes != 0
    before = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed(codes) * powers(len(codes), BASE), dtype=np.uint64)])
    back = powers(len(codes) + 1, INVERSE)
    starts = np.flatnonzero(words & ~np.r_[False, words[:-1]])
    ends = np.flatnonzero(words & ~np.r_[words[1:], False]) + 1
    word = mixed((before[ends] - before[starts]) * back[starts] + (ends - starts).astype(np.uint64))
    neighbours = text_of[starts[1:]] == text_of[starts[:-1]]
    pair = mixed(word[:-1] * np.uint64(3) + word[1:])[neighbours]
    found = [(text_of[starts], WORD, word), (text_of[starts[1:]][neighbours], WORD_PAIR, pair)]
    for kind, length in enumerate(CHARACTER_RUNS, WORD_PAIR + 1):
        at = np.arange(max(len(codes) - length + 1, 0))
        at = at[text_of[at] == text_of[at + length - 1]]
        found.append((text_of[at], kind, mixed((before[at + length] - before[at]) * back[at])))
    kinds = np.repeat([kind for _, kind, _ in found], [len(hashes) for _, _, hashes in found])
    return np.concatenate([texts for texts, _, _ in found]), kinds, np.concatenate([hashes for _, _, hashes in found])


def letters(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(code points, text of each): what is no letter, mark or digit is one 0 between words, and one stands around each text.

    Scripts without spaces are words of one character each.
    """
    joined = "".join(f" {text} " for text in texts).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(joined, "<u4").astype(np.int64)
    text_of = np.repeat(np.arange(len(texts)), [len(text) + 2 for text in texts])
    distinct, which = distinct_codes(codes)
    codes = np.where(np.array([counts(chr(code)) for code in distinct.tolist()], bool)[which], codes, 0) if len(codes) else codes
    kept = (codes != 0) | np.r_[True, (codes[:-1] != 0) | (text_of[1:] != text_of[:-1])]
    codes, text_of = codes[kept], text_of[kept]
    alone = np.array([stands_alone(code) for code in distinct.tolist()], bool)
    if not alone.any():
        return codes, text_of
    split = np.flatnonzero(np.isin(codes, distinct[alone]))
    split = split[codes[split - 1] != 0]  # a gap before each, and so after the one before it
    return np.insert(codes, split, 0), np.insert(text_of, split, text_of[split])


def distinct_codes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values, and which of them each is."""
    seen = np.zeros(0x110000, bool)
    seen[codes] = True
    distinct = np.flatnonzero(seen)
    place = np.zeros(0x110000, np.int32)
    place[distinct] = np.arange(len(distinct))
    return distinct, place[codes]


def counts(character: str) -> bool:
    """Whether a character is part of a word."""
    return unicodedata.category(character)[0] in "LMN"


def stands_alone(code: int) -> bool:
    """Whether a character is written without spaces between words: Chinese, kana, Thai, Lao, Khmer, Burmese."""
    return any(low <= code <= high for low, high in ALONE)


ALONE = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


def powers(count: int, base: int) -> np.ndarray:
    """base^0, base^1, ... modulo 2^64, (count,)."""
    all_powers = np.full(max(count, 1), base, np.uint64)
    all_powers[0] = 1
    return np.multiply.accumulate(all_powers)[:count]


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers whose bits all depend on all bits of the old ones. Source: splitmix64, G. Steele et al., OOPSLA 2014."""
    z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed_up: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed_up
