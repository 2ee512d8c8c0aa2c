"""Votes on pairs as numbers: who voted on which pair, in which order it was shown, and for which side.

Letters: N pairs, R raters, V votes.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables

BARE = pa.struct([tables.VOTE.field(name) for name in ("rater", "aspect", "p_chosen", "p_swapped", "round")])


class Votes(NamedTuple):
    """One entry for each vote: at most one for a pair, rater and order."""

    pair_V: np.ndarray
    """Number of the pair, from 0, ascending."""
    rater_V: np.ndarray
    """Number of the rater, from 0."""
    p_V: np.ndarray
    """Probability that the chosen side is better as the rater says it, float64; 0.5 is a tie."""
    swapped_V: np.ndarray
    """Whether the rejected side was shown first, bool."""
    pairs: int
    raters: int

    @property
    def lean_V(self) -> np.ndarray:
        """How far a vote is for the chosen side, from -1 to 1; 0 for a tie."""
        return np.asarray(2 * self.p_V - 1)

    def by_pair(self, weights_V: np.ndarray | None = None) -> np.ndarray:
        """Sum over the votes of each pair, (N,); their number without weights."""
        return np.bincount(self.pair_V, weights_V, self.pairs)

    def by_rater(self, weights_V: np.ndarray | None = None) -> np.ndarray:
        """Sum over the votes of each rater, (R,); their number without weights."""
        return np.bincount(self.rater_V, weights_V, self.raters)

    def where(self, keep_V: np.ndarray) -> "Votes":
        """Some of the votes; pairs and raters keep their numbers."""
        return self._replace(**{name: getattr(self, name)[keep_V] for name in ("pair_V", "rater_V", "p_V", "swapped_V")})

    def decided(self) -> "Votes":
        """The votes that name a side."""
        leans = self.p_V != 0.5
        return self if leans.all() else self.where(leans)


def dense(votes_NRO: np.ndarray) -> Votes:
    """Votes from an array with NaN for none; O: chosen shown first, rejected shown first."""
    pairs, raters, orders = np.nonzero(~np.isnan(votes_NRO))
    values = votes_NRO[pairs, raters, orders].astype(np.float64)
    return Votes(pairs, raters, values, orders == 1, votes_NRO.shape[0], votes_NRO.shape[1])


def bare(lists: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A votes column without reasons and errors."""
    lists = tables.flat(lists)
    entries = lists.flatten()
    told = pa.StructArray.from_arrays([pc.struct_field(entries, field.name) for field in BARE], fields=list(BARE))
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32()), told, type=pa.list_(BARE))


def votes_of(
    lists: pa.Array | pa.ChunkedArray, series: Sequence[str], round: int | None = None, known: Sequence[str] | None = None
) -> tuple[Votes, list[str]]:
    """The votes of a column by the named series, and the raters' names in the order of their numbers.

    series: rater or rater:aspect; * stands for anything, and each series that it finds is then a rater of its own. known: the
    raters that count, by number, where an earlier look told them. Of several entries for a pair, series, order and round the
    last counts; rounds are averaged.
    """
    lists = tables.flat(lists)
    entries = lists.flatten()
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    couples, couple_E = _couples(entries)
    names, members = _members(couples, series, known)
    counts = np.bincount(np.array([couple for couple, _ in members], dtype=np.int64), minlength=len(couples))
    starts = np.cumsum(counts) - counts
    numbers = np.array([number for _, number in members], dtype=np.int64)
    many_E = counts[couple_E] if len(couples) else np.zeros(0, dtype=np.int64)
    entry = np.repeat(np.arange(len(entries)), many_E)
    nth = np.arange(len(entry)) - np.repeat(np.cumsum(many_E) - many_E, many_E)
    rater = numbers[starts[couple_E[entry]] + nth] if len(entry) else np.zeros(0, dtype=np.int64)
    rounds = pc.fill_null(pc.struct_field(entries, "round"), 0).to_numpy(zero_copy_only=False).astype(np.int64)[entry]
    orders = [_finite(entries, field)[entry] for field in ("p_chosen", "p_swapped")]
    pair, rater, rounds = (np.concatenate([each, each]) for each in (rows[entry], rater, rounds))
    value, swapped = np.concatenate(orders), np.repeat([False, True], len(entry))
    told = ~np.isnan(value) if round is None else ~np.isnan(value) & (rounds == round)
    found = _once(pair[told], rater[told], swapped[told], rounds[told], value[told], len(names))
    return Votes(*found, len(lists), len(names)), names


def _couples(entries: pa.StructArray) -> tuple[list[tuple[str, str]], np.ndarray]:
    """The distinct (rater, aspect), and the number of each entry's."""
    codes, texts = [], []
    for field in ("rater", "aspect"):
        encoded = pc.fill_null(pc.struct_field(entries, field), "").dictionary_encode()
        codes.append(encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64))
        texts.append(encoded.dictionary.to_pylist())
    distinct, which = np.unique(codes[0] * max(len(texts[1]), 1) + codes[1], return_inverse=True)
    couples = [(texts[0][code // len(texts[1])], texts[1][code % len(texts[1])]) for code in distinct.tolist()]
    return couples, which


def _members(
    couples: list[tuple[str, str]], series: Sequence[str], known: Sequence[str] | None
) -> tuple[list[str], list[tuple[int, int]]]:
    """Names of the raters, and (couple, number of the rater) for each that counts, by couple."""
    if any("*" in by for by in series):
        patterns = [tables.split_rater(by) for by in series]
        found = {
            f"{rater}:{aspect}": place
            for place, (rater, aspect) in enumerate(couples)
            if any(_like(rater, one) and (other is None or _like(aspect, other)) for one, other in patterns)
        }
        names = sorted(found) if known is None else list(known)
        listed = [(found[name], number) for number, name in enumerate(names) if name in found]
    else:
        names = list(series)
        listed = [
            (place, number)
            for number, (rater, aspect) in enumerate(map(tables.split_rater, series))
            for place, couple in enumerate(couples)
            if couple[0] == rater and aspect in (None, couple[1])
        ]
    return names, sorted(listed)


def _like(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]"))  # * stands for anything, brackets for themselves


def _finite(entries: pa.StructArray, field: str) -> np.ndarray:
    values = pc.struct_field(entries, field).to_numpy(zero_copy_only=False).astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _once(
    pair: np.ndarray, rater: np.ndarray, swapped: np.ndarray, rounds: np.ndarray, value: np.ndarray, raters: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One vote for a pair, rater and order: the mean over rounds of the last of each; sorted by pair."""
    width = int(rounds.max(initial=0)) + 1
    key = (pair * max(raters, 1) + rater) * 2 + swapped
    full = key * width + rounds
    order = np.argsort(full, kind="stable")
    last = order[np.diff(full[order], append=-1) != 0]
    key, value = key[last], value[last]
    first = np.flatnonzero(np.diff(key, prepend=-1) != 0)
    if len(first) < len(key):
        value = np.add.reduceat(value, first) / np.diff(np.append(first, len(key)))
    at = last[first]
    return pair[at], rater[at], value, swapped[at]


# -- one answer a pair, every rater equally good or as good as somebody says


def mean_vote(votes: Votes) -> np.ndarray:
    """Mean vote of each pair, (N,), orders counted one by one; 0.5 without one."""
    return weighted_vote(votes, np.ones(votes.raters))


def weighted_vote(votes: Votes, weights_R: np.ndarray) -> np.ndarray:
    """Mean vote of each pair by the raters' weights, (N,); 0.5 where there is no weight."""
    weight_V = weights_R[votes.rater_V]
    total, size = votes.by_pair(weight_V * votes.p_V), votes.by_pair(weight_V)
    mean: np.ndarray = np.divide(total, size, out=np.full(votes.pairs, 0.5), where=size > 0)
    return mean


def voices(votes: Votes) -> Votes:
    """One voice for each pair and rater, its orders averaged: 1 for the chosen side, 0 for the rejected, 0.5 for a tie."""
    key = votes.pair_V * max(votes.raters, 1) + votes.rater_V
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1) != 0)
    lean = np.add.reduceat(votes.lean_V[order], first) if len(first) else np.zeros(0)
    at = order[first]
    return Votes(votes.pair_V[at], votes.rater_V[at], (np.sign(lean) + 1) / 2, np.zeros(len(at), bool), votes.pairs, votes.raters)


def majority(votes: Votes) -> np.ndarray:
    """The side that most raters find better, (N,): 1 chosen, 0 rejected, 0.5 where as many are for either or nobody leans."""
    spoken = voices(votes)
    return np.asarray((np.sign(spoken.by_pair(spoken.lean_V)) + 1) / 2)


def agreement_with_majority(votes: Votes) -> np.ndarray:
    """Share of each rater's voices that name the majority's side, (R,), 0.5 for half a majority; 0 without a voice.

    The weights of "worker agreement with aggregate" (Wawa), as in crowd-kit. Voices that name no side are left out.
    """
    spoken = voices(votes).decided()
    side_N = majority(spoken)[spoken.pair_V]
    agreed = np.where(side_N == 0.5, 0.5, side_N == spoken.p_V)
    voices_R = spoken.by_rater()
    share: np.ndarray = np.divide(spoken.by_rater(agreed), voices_R, out=np.zeros(votes.raters), where=voices_R > 0)
    return share


def agreement_with_others(votes: Votes) -> tuple[np.ndarray, np.ndarray]:
    """For each rater, how often it names the side that most of the others name, and among how many pairs, (R,) each.

    A pair counts where the rater names a side and the others, without the rater, name one more often than the other.
    """
    spoken = voices(votes).decided()
    others_V = np.sign(spoken.by_pair(spoken.lean_V)[spoken.pair_V] - spoken.lean_V)
    agreed, seen = spoken.by_rater(others_V == spoken.lean_V), spoken.by_rater(others_V != 0)
    return agreed, seen
