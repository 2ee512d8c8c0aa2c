"""Which sets resemble each other: every pair whose Jaccard similarity reaches a floor, exactly, without comparing all pairs.

Two sets that share the share `floor` of their union share an element among the rarest few of each, so only pairs that meet
there are compared. Unlike MinHash this misses none, and needs no more memory than the sets. Source: C. Xiao et al.,
"Efficient similarity joins for near-duplicate detection", WWW 2008; R. Bayardo et al., "Scaling up all pairs similarity
search", WWW 2007.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from curate.maths.memory import keep_freed
from curate.maths.shingles import Sets, mixed, ranges

FREQUENCY_BITS = 24  # elements are counted by so many bits of their hash at most: any order will do, rarest first is fastest
COUNTED_AT_ONCE = 1 << 25
OFTEN = (1 << 14) - 1  # elements that occur so many times or more are all equally frequent
SETS_AT_ONCE = 4096  # put in order together: they stay in the processor's cache
ELEMENTS_AT_ONCE = 4_000_000  # of pairs compared together: bounds memory at about 100 MB
PAIRS_AT_ONCE = 4_000_000
MEET_AT_MOST = 400
"""Sets that share a rare element and are all compared with each other; of more, see `_crowded`."""


class Edges(NamedTuple):
    """Pairs of rows and how alike they are, each pair once, ordered."""

    left: np.ndarray
    """(E,) int64, the smaller row number."""
    right: np.ndarray
    """(E,) int64."""
    likeness: np.ndarray
    """(E,) float32."""

    @staticmethod
    def of(left: np.ndarray, right: np.ndarray, likeness: np.ndarray) -> "Edges":
        """Edges in order, each once, whatever side its ends are given on."""
        low, high = np.minimum(left, right).astype(np.int64), np.maximum(left, right).astype(np.int64)
        order = np.lexsort((high, low))
        low, high, likeness = low[order], high[order], likeness[order]
        new = np.ones(len(low), bool)
        new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        return Edges(low[new], high[new], likeness[new].astype(np.float32))

    @staticmethod
    def none() -> "Edges":
        """No pair at all."""
        return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))

    @staticmethod
    def joined(parts: "list[Edges]") -> "Edges":
        """All of them together."""
        return Edges.of(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))) if parts else Edges.none()

    def above(self, threshold: float) -> "Edges":
        """Those at or above a threshold."""
        return self._only(self.likeness >= np.float32(threshold))

    def reaching(self, known: int) -> "Edges":
        """Those that are not between two of the first `known` rows."""
        return self._only(self.right >= known) if known else self

    def _only(self, keep: np.ndarray) -> "Edges":
        return Edges(self.left[keep], self.right[keep], self.likeness[keep])


def alike(sets: Sets, floor: float, scopes: np.ndarray | None = None, known: int = 0) -> Edges:
    """Pairs of a Jaccard similarity of `floor` or more. Empty sets are like nothing.

    scopes: (N,) whole numbers; only sets of one scope are compared. known: pairs among so many first sets are left out.
    Sets that meet in crowds are not all compared with each other: `complete` mends that for those that matter.
    """
    return Join(sets, floor, scopes, known).edges()


class Join:
    """One search; it can be asked again for the pairs among fewer sets, all of them compared."""

    def __init__(self, sets: Sets, floor: float, scopes: np.ndarray | None = None, known: int = 0) -> None:
        if not 0 < floor <= 1:
            raise ValueError(f"the floor is a similarity above 0 and up to 1, got {floor}")
        keep_freed()
        self.sets, self.floor, self.known = sets, floor, known
        self.sizes = sets.sizes()
        self.scopes = np.zeros(len(self.sizes), np.int64) if scopes is None else scopes
        self.set_of, self.keys = self._rarest()

    def edges(self) -> Edges:
        """The pairs found."""
        return Edges.joined([self._compared(left, right) for left, right in self._met(self.set_of, self.keys, MEET_AT_MOST)])

    def among(self, chosen: np.ndarray) -> Edges:
        """All pairs among the sets that are `chosen`, (N,) bool, however crowded; those with a set beyond `known` alone."""
        mine = chosen[self.set_of]
        met = self._met(self.set_of[mine], self.keys[mine], len(self.sizes) + 1)
        return Edges.joined([self._compared(left, right) for left, right in met])

    @property
    def crowded(self) -> bool:
        """Whether some element was shared by too many sets to compare them all."""
        return self._crowds

    _crowds = False

    def _rarest(self) -> tuple[np.ndarray, np.ndarray]:
        """(set, element) of the rarest elements of each set, by element: as many as two sets alike cannot both do without."""
        hashes = self.sets.hashes
        bits = min(max(len(hashes), 1).bit_length(), FREQUENCY_BITS)
        shift = np.uint32(32 - bits)
        times = np.zeros(1 << bits, np.int64)
        for start in range(0, len(hashes), COUNTED_AT_ONCE):
            times += np.bincount(hashes[start : start + COUNTED_AT_ONCE] >> shift, minlength=1 << bits)
        often = np.minimum(times, OFTEN).astype(np.uint16)  # small, since it is looked up at random
        parts = [self._rarest_of(first, often, shift) for first in range(0, len(self.sizes), SETS_AT_ONCE)]
        if not parts:
            return np.zeros(0, np.int32), np.zeros(0, np.uint64)
        set_of, keys = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return set_of, keys

    def _rarest_of(self, first: int, often: np.ndarray, shift: np.uint32) -> tuple[np.ndarray, np.ndarray]:
        """Of SETS_AT_ONCE sets from `first` on; elements that occur once are left out, since nothing is met there."""
        sizes = self.sizes[first : first + SETS_AT_ONCE]
        begin = self.sets.starts[first]
        hashes = self.sets.hashes[begin : self.sets.starts[first + len(sizes)]]
        place = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
        # set, frequency and the upper part of the hash in one number: sorting it orders the elements of each set
        packed = (place << np.uint64(46)) | (often[hashes >> shift].astype(np.uint64) << np.uint64(32)) | hashes
        packed.sort(kind="stable")  # merges what is in order already: three times as fast here
        needed = sizes - np.ceil(self.floor * sizes - 1e-9).astype(np.int64) + 1
        starts = self.sets.starts[first : first + len(sizes)] - begin
        taken = packed[ranges(starts, np.where(sizes > 0, needed, 0))]
        taken = taken[(taken >> np.uint64(32)) & np.uint64(OFTEN) > 1]
        set_of = (taken >> np.uint64(46)).astype(np.int64) + first
        return set_of.astype(np.int32), self._keyed(set_of, taken & np.uint64(0xFFFFFFFF))

    def _keyed(self, set_of: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        """Elements of different scopes are different."""
        return mixed(self.scopes[set_of].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + hashes)

    def _met(self, set_of: np.ndarray, keys: np.ndarray, at_most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of sets that share one of their rarest elements, each pair once in its portion."""
        order = np.argsort(keys)
        keys, set_of = keys[order], set_of[order]
        begins = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, np.int64)
        counts = np.diff(np.r_[begins, len(keys)])
        fresh = np.maximum.reduceat(set_of, begins) >= self.known if len(begins) else np.zeros(0, bool)
        some = (counts > 1) & fresh
        begins, counts = begins[some], counts[some]
        crowds = counts > at_most
        if crowds.any():
            self._crowds = True
            yield self._crowded(set_of, begins[crowds], counts[crowds], at_most)
            begins, counts = begins[~crowds], counts[~crowds]
        wide = counts * (counts - 1) // 2 > PAIRS_AT_ONCE
        for begin, count in zip(begins[wide].tolist(), counts[wide].tolist(), strict=True):
            yield from self._each_with_each(set_of[begin : begin + count])
        begins, counts = begins[~wide], counts[~wide]
        steps = np.cumsum(counts * (counts - 1) // 2)
        cut = 0
        while cut < len(counts):
            done = steps[cut - 1] if cut else 0
            end = max(int(np.searchsorted(steps, done + PAIRS_AT_ONCE)), cut + 1)
            yield self._unique(*_all_pairs(set_of, begins[cut:end], counts[cut:end]))
            cut = end

    def _each_with_each(self, members: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All pairs of one large group, a block of its rows at a time."""
        block = max(PAIRS_AT_ONCE // len(members), 1)
        for begin in range(0, len(members), block):
            some = members[begin : begin + block]
            yield self._unique(np.repeat(some, len(members) - begin), np.tile(members[begin:], len(some)))

    def _crowded(self, set_of: np.ndarray, begins: np.ndarray, counts: np.ndarray, at_most: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a crowd each set is compared with the first few and with the next few by size: alike sets are of like size."""
        few = max(at_most // 40, 2)
        lefts, rights = [], []
        for begin, count in zip(begins.tolist(), counts.tolist(), strict=True):
            members = np.sort(set_of[begin : begin + count])
            lefts.append(np.repeat(members[:few], count))
            rights.append(np.tile(members, min(few, count)))
            by_size = members[np.argsort(self.sizes[members], kind="stable")]
            for step in range(1, few):
                lefts.append(by_size[:-step])
                rights.append(by_size[step:])
        return self._unique(np.concatenate(lefts), np.concatenate(rights))

    def _unique(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each pair once, those that cannot be alike for their sizes left out."""
        low, high = np.minimum(left, right), np.maximum(left, right)
        a, b = self.sizes[low], self.sizes[high]
        fits = (np.minimum(a, b) >= self.floor * np.maximum(a, b) - 1e-6) & (low != high) & (high >= self.known)
        packed = (low[fits].astype(np.uint64) << np.uint64(32)) | high[fits].astype(np.uint64)
        packed.sort()
        packed = packed[np.r_[True, packed[1:] != packed[:-1]]] if len(packed) else packed
        return (packed >> np.uint64(32)).astype(np.int64), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)

    def _compared(self, left: np.ndarray, right: np.ndarray) -> Edges:
        """The pairs that reach the floor."""
        ends = np.cumsum(self.sizes[left] + self.sizes[right])
        parts, cut = [], 0
        while cut < len(left):
            done = ends[cut - 1] if cut else 0
            end = max(int(np.searchsorted(ends, done + ELEMENTS_AT_ONCE)), cut + 1)
            likeness = jaccard(self.sets, left[cut:end], right[cut:end])
            parts.append(Edges(left[cut:end], right[cut:end], likeness).above(self.floor))
            cut = end
        return Edges(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))) if parts else Edges.none()


def _all_pairs(set_of: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs within each group: `counts` entries of `set_of` from `begins` on."""
    place = ranges(np.zeros(len(counts), np.int64), counts)
    later = np.repeat(counts, counts) - place - 1
    member = ranges(begins, counts)
    left = np.repeat(member, later)
    return set_of[left], set_of[ranges(member + 1, later)]


def jaccard(sets: Sets, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Jaccard similarity of pairs of sets, (E,) float32; 0 of two empty ones."""
    a, b = sets.sizes()[left], sets.sizes()[right]
    pair = np.arange(len(left), dtype=np.uint64) << np.uint64(32)
    both = np.concatenate(
        [
            np.repeat(pair, a) | sets.hashes[ranges(sets.starts[left], a)],
            np.repeat(pair, b) | sets.hashes[ranges(sets.starts[right], b)],
        ]
    )
    both.sort(kind="stable")
    shared = both[1:][both[1:] == both[:-1]] >> np.uint64(32)
    common = np.bincount(shared.astype(np.int64), minlength=len(left))
    union = a + b - common
    likeness: np.ndarray = np.divide(common, union, out=np.zeros(len(left)), where=union > 0).astype(np.float32)
    return likeness


def set_digests(sets: Sets) -> np.ndarray:
    """A number that equal sets have in common and others do not, (N,) uint64."""
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed(sets.hashes), dtype=np.uint64)])
    return mixed(total[sets.starts[1:]] - total[sets.starts[:-1]] + sets.sizes().astype(np.uint64))
