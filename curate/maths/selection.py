"""Choose which rows to keep: a quota a group, a mixture of groups, and rows unlike each other.

Every function reads arrays over N rows, and depends on nothing else: equal input gives equal choice.
"""

import heapq
from collections.abc import Mapping

import numpy as np

BLOCK = 1024  # rows compared with all others at once


def places(groups_N: np.ndarray, order_N: np.ndarray) -> np.ndarray:
    """Each row's place within its group, from 0, (N,) int64: the lowest of `order_N` first, of equals the earlier row.

    groups_N: whole numbers. NaN in order_N comes last.
    """
    sort = np.lexsort((order_N, groups_N))
    sorted_groups = groups_N[sort]
    begins = np.ones(len(sort), dtype=bool)
    begins[1:] = sorted_groups[1:] != sorted_groups[:-1]
    starts = np.flatnonzero(begins)
    found = np.empty(len(sort), dtype=np.int64)
    found[sort] = np.arange(len(sort)) - np.repeat(starts, np.diff(np.append(starts, len(sort))))
    return found


def shared_out(total: int, shares_G: np.ndarray) -> np.ndarray:
    """So many rows in proportion to the shares, (G,) int64; what is left after rounding down goes to the largest remainders.

    shares_G: >= 0, not all 0. Equal remainders go to the earlier group. Source: Hamilton's method of apportionment.
    """
    exact = total * shares_G.astype(np.float64) / shares_G.sum()
    whole: np.ndarray = np.floor(exact + 1e-9).astype(np.int64)
    left = total - int(whole.sum())
    # in millionths, so that two remainders that are equal on paper are equal here
    order = np.argsort(-np.round((exact - whole) * 1e6), kind="stable")
    whole[order[:left]] += 1
    return whole


def mixture(counts_G: np.ndarray, weights_G: np.ndarray, total: int | None = None) -> np.ndarray:
    """Rows to keep of each group so that they stand in the proportion of the weights, (G,) int64, none above its count.

    total: rows wanted in all; None, or more than there can be: as many as the scarcest group allows. A group of weight 0
    keeps none.
    """
    asked = weights_G > 0
    if not asked.any():
        return np.zeros(len(counts_G), dtype=np.int64)
    most = int(np.floor((counts_G[asked] * weights_G.sum() / weights_G[asked]).min() + 1e-9))
    total = most if total is None else min(total, most)
    # no exact share is above its count, so that none is when rounded up to a whole row
    return shared_out(total, weights_G)


def rows_of_share(share: float, rows: int) -> int:
    """How many rows a share of them is, rounded down; 0.3 of ten is three."""
    return int(np.floor(share * rows + 1e-9))


def farthest_first(vectors_ND: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Rows far from each other, (count,) int64, in the order of choice: each the farthest from those chosen before it.

    Distance is Euclidean; of equally far rows the earliest. The smallest distance between chosen rows is at least half of
    the best possible. Source: Gonzalez, Clustering to minimize the maximum intercluster distance, 1985, section 2.
    """
    count = min(count, len(vectors_ND))
    chosen = np.empty(count, dtype=np.int64)
    nearest = np.full(len(vectors_ND), np.inf)
    at = first
    for place in range(count):
        chosen[place] = at
        gap = vectors_ND - vectors_ND[at]
        np.minimum(nearest, np.einsum("nd,nd->n", gap, gap, dtype=np.float64), out=nearest)
        nearest[at] = -1.0  # chosen rows are never chosen again, also where all others lie upon them
        at = int(nearest.argmax())
    return chosen


def facility_location(vectors_ND: np.ndarray, count: int, covered_MD: np.ndarray | None = None) -> np.ndarray:
    """Rows that stand for the others, (count,) int64, in the order of choice.

    Each choice raises the sum over all rows of the likeness to the nearest chosen row the most; likeness is the cosine, no
    less than 0; of equal gains the earliest row. The greedy choice reaches at least 63 % of the best sum. Source: Nemhauser,
    Wolsey and Fisher, 1978, theorem 4.2; lazy evaluation: Minoux, 1978. covered_MD: the rows to stand for, where not all.
    """
    unit = _unit(vectors_ND)
    covered = unit if covered_MD is None else _unit(covered_MD)
    count = min(count, len(unit))
    best = np.zeros(len(covered))
    gains = np.concatenate([_likeness(unit[a : a + BLOCK], covered).sum(axis=1) for a in range(0, len(unit), BLOCK)] or [[]])
    queue = [(-gain, row, 0) for row, gain in enumerate(gains.tolist())]
    heapq.heapify(queue)
    chosen: list[int] = []
    while len(chosen) < count:
        _, row, seen = heapq.heappop(queue)
        likeness = _likeness(unit[row : row + 1], covered)[0]
        if seen < len(chosen):  # the gain is from before the last choice: it can only have shrunk
            heapq.heappush(queue, (-float(np.maximum(likeness - best, 0).sum()), row, len(chosen)))
        else:
            chosen.append(row)
            np.maximum(best, likeness, out=best)
    return np.array(chosen, dtype=np.int64)


def _unit(vectors_ND: np.ndarray) -> np.ndarray:
    wide = vectors_ND.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    found: np.ndarray = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return found


def _likeness(some_BD: np.ndarray, others_MD: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.maximum(some_BD @ others_MD.T, 0.0)
    return found


def standardised(columns_ND: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and standard deviation 1, (N, D) float64; what is missing, and a column without spread, is 0."""
    wide = columns_ND.astype(np.float64)
    known = np.isfinite(wide)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, wide, 0.0).sum(axis=0) / counts
    gaps = np.where(known, wide - means, 0.0)
    sds = np.sqrt((gaps**2).sum(axis=0) / counts)
    found: np.ndarray = np.divide(gaps, sds, out=np.zeros_like(gaps), where=sds > 0)
    return found


def numbered(values: list[str | None]) -> tuple[np.ndarray, list[str | None]]:
    """A number for each value, (N,) int64, and the values by number in their order of first appearance."""
    known: dict[str | None, int] = {}
    codes = np.fromiter((known.setdefault(value, len(known)) for value in values), dtype=np.int64, count=len(values))
    return codes, list(known)


def limits(names: list[str | None], quotas: Mapping[str, int], other: int | None) -> np.ndarray:
    """Rows that each group may keep, (G,) int64; -1 for no limit. other: of groups that no quota names; None for no limit."""
    rest = -1 if other is None else other
    return np.array([rest if name is None else quotas.get(name, rest) for name in names], np.int64)
