"""Find which rows belong together through what they share, and which row stands for each cluster."""

import heapq
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from curate.maths.jaccard import Edges
from curate.maths.shingles import mixed


def components(rows_E: np.ndarray, keys_E: np.ndarray, total: int) -> np.ndarray:
    """The smallest row connected to each of `total` rows, (total,) int64; a row that shares nothing is its own.

    rows_E, keys_E: E links between a row and a key number; rows with one key belong together, and so do theirs.
    """
    labels = np.arange(total, dtype=np.int64)
    if not len(rows_E):
        return labels
    least_of_key = np.empty(int(keys_E.max()) + 1, dtype=np.int64)
    while True:
        least_of_key.fill(total)
        np.minimum.at(least_of_key, keys_E, labels[rows_E])
        found = labels.copy()
        np.minimum.at(found, rows_E, least_of_key[keys_E])
        np.minimum.at(found, labels, found.copy())  # what a row found holds for the row that stands for it, too
        found = found[found]
        if (found == labels).all():
            return labels
        labels = found


def first_equal(digests: np.ndarray, scopes: np.ndarray, has: np.ndarray) -> np.ndarray:
    """The first row of the same digest and scope as each, (N,) int64; a row that has no digest is like no other.

    digests: (N,) uint64. scopes: (N,) int64. has: (N,) bool.
    """
    rows = np.flatnonzero(has)
    _, at, which = np.unique(mixed(digests[rows] + mixed(scopes[rows])), return_index=True, return_inverse=True)
    first = np.arange(len(has))
    first[rows] = rows[at[which]]
    return first


class Clusters(NamedTuple):
    """Which row stands for each one."""

    kept: np.ndarray
    """(N,) int64: the kept row of its cluster; a kept row is its own."""
    likeness: np.ndarray
    """(N,) float32: of a dropped row and its kept row; on a path, of the least alike neighbours. 1 of a kept row."""
    before: np.ndarray | None = None
    """(N,) int64: the row that leads from a row to its kept row, of single linkage; a kept row's is itself."""

    def path(self, row: int) -> list[int]:
        """The rows from a row to its kept row, both included."""
        assert self.before is not None
        found = [row]
        while int(self.before[found[-1]]) != found[-1]:
            found.append(int(self.before[found[-1]]))
        return found


def complete(edges: Edges, place: np.ndarray) -> Clusters:
    """Rows in order of preference: a row is dropped if it is alike to one kept before it, and joins the most alike of those.

    edges: all pairs alike enough. place: (N,) of each row in the order of preference, from 0. So no two kept rows are alike,
    and every dropped row is alike to its kept one.
    """
    count = len(place)
    ahead = place[edges.left] < place[edges.right]
    better, worse = np.where(ahead, edges.left, edges.right), np.where(ahead, edges.right, edges.left)
    order = np.argsort(place[better], kind="stable")
    better, worse, likeness = better[order], worse[order], edges.likeness[order]
    dropped = np.zeros(count, bool)
    begins = np.flatnonzero(np.r_[True, better[1:] != better[:-1]]) if len(better) else np.zeros(0, np.int64)
    for begin, end in pairwise([*begins.tolist(), len(better)]):
        if not dropped[better[begin]]:
            dropped[worse[begin:end]] = True
    kept, alike = np.arange(count), np.ones(count, np.float32)
    holds = ~dropped[better]
    better, worse, likeness = better[holds], worse[holds], likeness[holds]
    last = np.lexsort((-place[better], likeness, worse))  # the most alike comes last, of equals the most preferred
    kept[worse[last]], alike[worse[last]] = better[last], likeness[last]
    return Clusters(kept, alike)


def single(edges: Edges, place: np.ndarray) -> Clusters:
    """Rows connected by any chain of alike pairs are one cluster; its most preferred row is kept.

    Each dropped row's path is the one whose least alike neighbours are most alike.
    """
    count = len(place)
    ends = np.concatenate([edges.left, edges.right])
    label = components(ends, np.tile(np.arange(len(edges.left)), 2), count)
    best = np.full(count, count, np.int64)
    np.minimum.at(best, label, place)
    at = np.empty(count, np.int64)
    at[place] = np.arange(count)
    kept = at[best[label]]
    likeness, before = np.ones(count, np.float32), np.arange(count)
    order = np.argsort(ends, kind="stable")
    others = np.concatenate([edges.right, edges.left])[order]
    weights, starts = np.tile(edges.likeness, 2)[order], np.searchsorted(ends[order], np.arange(count + 1))
    for row in np.unique(kept[ends]).tolist():
        _widest_paths(row, others, weights, starts, likeness, before)
    return Clusters(kept, likeness, before)


def _widest_paths(
    root: int, others: np.ndarray, weights: np.ndarray, starts: np.ndarray, likeness: np.ndarray, before: np.ndarray
) -> None:
    """Fill in, for every row connected to `root`, the neighbour that leads there and the least likeness on the way."""
    heap, done = [(-1.0, root, root)], set()
    while heap:
        negative, row, via = heapq.heappop(heap)
        if row in done:
            continue
        done.add(row)
        likeness[row], before[row] = -negative, via
        for place in range(int(starts[row]), int(starts[row + 1])):
            if (other := int(others[place])) not in done:
                heapq.heappush(heap, (max(negative, -float(weights[place])), other, row))


def nearest_better(edges: Edges, place: np.ndarray) -> np.ndarray:
    """The greatest likeness of each row to a more preferred one, (N,) float32; NaN where no pair is known."""
    worse = np.where(place[edges.left] < place[edges.right], edges.right, edges.left)
    most = np.full(len(place), -np.inf, np.float32)
    np.maximum.at(most, worse, edges.likeness)
    return np.where(np.isinf(most), np.float32(np.nan), most)


def in_order(rank: np.ndarray, ahead: int = 0) -> np.ndarray:
    """The place of each row in the order of preference, (N,) int64: the highest rank first, of equals the earliest, NaN last.

    ahead: so many first rows come before all others, as they stand.
    """
    place = np.empty(len(rank), np.int64)
    later = rank[ahead:]
    place[:ahead] = np.arange(ahead)
    place[ahead + np.argsort(np.where(np.isnan(later), np.inf, -later), kind="stable")] = np.arange(ahead, len(rank))
    return place
