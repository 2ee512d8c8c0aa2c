"""Which vectors lie near each other: pairs whose cosine reaches a floor, exact for few rows, by cells for many.

Beyond EXACT_BELOW rows, those that share a cell are compared, every pair that is found is verified, and the recall is estimated
against an exact search for some of the rows. Of rows that are alike to very many others, pairs are left out, and the rows told.
"""

from typing import NamedTuple

import numpy as np

from curate.maths.cells import BLOCK, CellJoin, between, drawn, each_with_each, nearest_pivots, products, single, sketched
from curate.maths.crowds import Held
from curate.maths.jaccard import Edges
from curate.maths.memory import keep_freed

EXACT_BELOW = 20_000
"""Rows up to which every pair is compared."""
PROBES = 6
"""Cells a row is a member of."""
ADDED_PROBES = 8
"""Times as many cells an added row is compared in: the known ones are each in one alone."""
SAMPLE = 300
"""Rows searched for exactly, to tell the recall; half as many of added ones."""
FEW = 64
"""Added rows up to which each is compared with all; where the known ones have no homes yet, the next search finds them."""
ADDED_SHARE = 12
"""Of one known row in so many: where more are added, searching for all anew is cheaper than comparing these by cells."""
TOGETHER = 256
"""Rows of small scopes that share a matrix product."""


class Found(NamedTuple):
    """What a search found."""

    edges: Edges
    recall: float
    """Share of the pairs at or above the floor that were found, estimated on a sample of rows; NaN if the sample had none."""
    checked: int
    """Pairs of the sample that the recall rests on; 0 after an exact search."""
    how: str
    """exact, or cells with their number."""
    homes: np.ndarray | None
    """(N,) int32: the row that is the pivot of each one's nearest cell, -1 where it has none: rows added later are compared by
    cells without placing the known ones again. None if there are no cells at all."""
    crowd: np.ndarray
    """(N,) bool: rows alike to so many that pairs with rows before them were left out."""


def near(
    vectors: np.ndarray,
    floor: float,
    known: int = 0,
    *,
    homes: np.ndarray | None = None,
    exact_below: int = EXACT_BELOW,
    probes: int = PROBES,
    seed: int = 0,
    sample: int = SAMPLE,
    few: int = FEW,
    held: Held | None = None,
) -> Found:
    """Pairs of rows whose cosine is `floor` or more. vectors: (N, D) float32 or float16 of unit length.

    known: pairs among so many first rows are left out. homes: (known,), what an earlier search for them told. few: added rows up
    to which each is compared with all. held: which pairs are held, where there are too many; its own if not given. Pairs are
    exact; only above `exact_below` rows may some be missed, besides those of crowds.
    """
    keep_freed()
    count = len(vectors)
    held = held or Held(count)
    if count <= max(exact_below, FEW) or count - known <= few:
        each_with_each(vectors, floor, known, held)
        lasting = count > max(exact_below, FEW) and homes is not None
        placed = _placed(vectors, known, homes, 1, seed)[1] if lasting else None
        return Found(held.edges(), 1.0, 0, "exact", placed, held.left_out)
    if 0 < count - known <= known // ADDED_SHARE:
        homes = _added(vectors, floor, known, homes, probes, seed, held)
        sample = sample // 2
    else:
        sketches, low = sketched(vectors, floor, seed)
        pivots = drawn(count, probes, seed)
        cells = nearest_pivots(sketches, sketches[pivots], probes)
        homes = pivots[cells[:, 0]].astype(np.int32)
        CellJoin(vectors, cells, floor, known, held).run(sketches, low)
        del sketches, cells
    edges = held.edges()
    recall, checked = estimated_recall(vectors, edges, floor, known, sample, seed, held.left_out)
    return Found(edges, recall, checked, f"cells: {len(np.unique(homes))}", homes, held.left_out)


def _added(
    vectors: np.ndarray, floor: float, known: int, homes: np.ndarray | None, probes: int, seed: int, held: Held
) -> np.ndarray:
    """Pairs with a row from `known` on, which visits more cells than it is a member of, in which the known ones are at home.

    Returns the homes of all rows.
    """
    fresh = near(vectors[known:], floor, probes=probes, seed=seed, sample=0, held=held.another(len(vectors) - known))
    held.hold(Edges(fresh.edges.left + known, fresh.edges.right + known, fresh.edges.likeness))
    held.left_out[known:] |= fresh.crowd
    visited, homes = _placed(vectors, known, homes, ADDED_PROBES * probes, seed)
    at_home, visits = np.argsort(homes[:known], kind="stable"), np.argsort(visited.reshape(-1), kind="stable")
    pivots = np.unique(homes[:known])
    homes_of, cells_of = homes[at_home], visited.reshape(-1)[visits]
    bounds = [np.searchsorted(cell_of, pivots, side) for cell_of in (homes_of, cells_of) for side in ("left", "right")]
    for begin, end, visit_begin, visit_end in zip(*bounds, strict=True):
        between(vectors, at_home[begin:end], known + visits[visit_begin:visit_end] // visited.shape[1], floor, held)
    return homes


def _placed(vectors: np.ndarray, known: int, homes: np.ndarray | None, probes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The pivots whose cells each row from `known` on visits, the nearest first; and the homes of all rows, drawn if need be."""
    pivots = drawn(known, probes, seed)
    if homes is None or (homes < 0).any() or 2 * len(np.unique(homes)) < len(pivots):
        sketches = sketched(vectors[:known], 1.0, seed)[0]
        homes = pivots[nearest_pivots(sketches, sketches[pivots], 1)[:, 0]]
    pivots = np.unique(homes)
    ends = sketched(np.concatenate([vectors[pivots], vectors[known:]]), 1.0, seed)[0]
    visited = pivots[nearest_pivots(ends[len(pivots) :], ends[: len(pivots)], probes)]
    return visited, np.concatenate([homes, visited[:, 0]]).astype(np.int32)


def estimated_recall(
    vectors: np.ndarray, edges: Edges, floor: float, known: int, sample: int, seed: int, crowd: np.ndarray
) -> tuple[float, int]:
    """Share of the pairs of a random sample of rows that are among the edges, against exact search; and those pairs.

    crowd: (N,) bool: rows whose pairs with rows before them do not count.
    """
    if not sample:
        return float("nan"), 0
    rows = known + np.sort(np.random.default_rng(seed + 1).choice(len(vectors) - known, min(sample, len(vectors) - known), False))
    asked = single(vectors[rows])
    lefts, rights = [], []
    for start in range(0, len(vectors), BLOCK):
        i, j, _ = products(asked, single(vectors[start : start + BLOCK]), floor)
        lefts.append(rows[i])
        rights.append(j + start)
    left, right = np.concatenate(lefts), np.concatenate(rights)
    low, high = np.minimum(left, right), np.maximum(left, right)
    true = np.unique((low.astype(np.uint64) << np.uint64(32) | high.astype(np.uint64))[(low != high) & ~crowd[high]])
    if not len(true):
        return float("nan"), 0
    mine = edges.left.astype(np.uint64) << np.uint64(32) | edges.right.astype(np.uint64)
    place = np.searchsorted(mine, true)  # edges are in order
    found = place < len(mine)
    found[found] = mine[place[found]] == true[found]
    return float(found.mean()), len(true)


def near_within(
    vectors: np.ndarray,
    scopes: np.ndarray,
    floor: float,
    known: int = 0,
    *,
    homes: np.ndarray | None = None,
    held: Held | None = None,
    **options: int,
) -> Found:
    """As `near`, of rows with the same scope alone. scopes: (N,) whole numbers."""
    if not len(scopes) or (scopes == scopes[0]).all():
        return near(vectors, floor, known, homes=homes, held=held, **options)
    order = np.argsort(scopes, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(scopes[order]) != 0])
    sizes = np.diff(np.r_[begins, len(order)])
    placed = np.full(len(scopes), -1, np.int32)
    placed[:known] = -1 if homes is None else homes
    held = held or Held(len(scopes))
    _packed(vectors, scopes, order[np.repeat(sizes <= TOGETHER, sizes)], floor, known, held)
    parts = []
    for begin, size in zip(begins[sizes > TOGETHER].tolist(), sizes[sizes > TOGETHER].tolist(), strict=True):
        rows = order[begin : begin + size]
        before = int(np.searchsorted(rows, known))
        if before == size:
            continue
        theirs = placed[rows[:before]]
        at_home = np.searchsorted(rows, theirs) if before and (theirs >= 0).all() else None
        found = near(vectors[rows], floor, before, homes=at_home, held=held.another(size), **options)
        if found.homes is not None:
            placed[rows] = rows[found.homes]
        held.hold(Edges(rows[found.edges.left], rows[found.edges.right], found.edges.likeness))
        held.left_out[rows] = found.crowd
        parts.append(found)
    recall, checked, how = _together(parts)
    return Found(held.edges(), recall, checked, how, placed if (placed >= 0).any() else None, held.left_out)


def _packed(vectors: np.ndarray, scopes: np.ndarray, order: np.ndarray, floor: float, known: int, held: Held) -> None:
    """Pairs within many small scopes, several of them in a product. order: their rows, scope by scope, ascending in each."""
    ends = np.flatnonzero(np.r_[np.diff(scopes[order]) != 0, True]) + 1 if len(order) else np.zeros(0, np.int64)
    begin = 0
    while begin < len(order):
        end = int(ends[max(int(np.searchsorted(ends, begin + TOGETHER, side="right")) - 1, 0)])
        rows = order[begin:end]
        some = single(vectors[rows])
        i, j, cosine = products(some, some, floor)
        left, right = rows[j], rows[i]
        inside = (left < right) & (scopes[left] == scopes[right]) & (right >= known)
        held.take(left[inside], right[inside], cosine[inside])
        begin = end


def _together(parts: list[Found]) -> tuple[float, int, str]:
    """Recall of the approximate searches, each counting by the pairs it was checked on; those pairs; and how it was searched."""
    checked = sum(part.checked for part in parts)
    recall = sum(part.recall * part.checked for part in parts if part.checked) / checked if checked else 1.0
    return recall, checked, "; ".join(sorted({part.how for part in parts})) or "exact"
