"""Which vectors lie near each other: pairs whose cosine reaches a floor, exact for few rows, by cells for many.

Beyond EXACT_BELOW rows, cells are drawn around pivots that are rows picked at random: no training but the assignment. A row
is compared with the rows of its own cell and of the nearest other ones, block by block, as matrix products. FAISS assigns rows
to cells and makes the exact search that the recall is estimated against. Source: J. Johnson et al., "Billion-scale similarity
search with GPUs", IEEE TBD 2019 (inverted files); pivots instead of k-means after E. Chavez et al., "Searching in metric spaces",
ACM CSUR 2001.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from curate.maths.jaccard import Edges
from curate.maths.memory import keep_freed

EXACT_BELOW = 20_000
"""Rows up to which every pair is compared."""
BLOCK = 2048  # rows on a side of a matrix product
PIVOTS_PER_ROOT = 2.0
"""Cells, per square root of the rows."""
PROBES = 12
"""Cells a row is compared in: its own and the nearest others."""
SKETCHED = 96
"""Numbers that stand for a longer vector while candidates are looked for."""
SLACK = 4.0
"""Standard errors that the cosine of two sketches may fall short by: one pair at the floor of 30,000 is lost so."""
CROWDED = 64
"""Where one pair in so many may be near, computing all cosines as a matrix product is cheaper than looking rows up."""
ASSIGNED_AT_ONCE = 65_536
SAMPLE = 300
"""Rows searched for exactly, to tell the recall; half as many of added ones."""
FEW = 64
"""Added rows up to which each is compared with all."""
ADDED_SHARE = 12
"""Of one known row in so many: where more are added, searching for all anew is cheaper than comparing these by cells."""
TOGETHER = 256
"""Rows of small scopes that share a matrix product."""
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


class Found(NamedTuple):
    """What a search found."""

    edges: Edges
    recall: float
    """Share of the pairs at or above the floor that were found, estimated on a sample of rows; NaN if the sample had none."""
    checked: int
    """Pairs of the sample that the recall rests on; 0 after an exact search."""
    how: str
    """exact, or cells with their number."""
    homes: np.ndarray | None = None
    """(N,) int32: the row that is the pivot of each one's cell, -1 where it has none: rows added later are compared by cells
    without placing the known ones again. None if there are no cells at all."""


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
) -> Found:
    """Pairs of rows whose cosine is `floor` or more. vectors: (N, D) float32 or float16 of unit length.

    known: pairs among so many first rows are left out. homes: (known,), what an earlier search for them told. Pairs found are
    exact; only above `exact_below` rows may some be missed.
    """
    keep_freed()
    count = len(vectors)
    if count <= max(exact_below, FEW):
        return Found(_exact(vectors, floor, known), 1.0, 0, "exact")
    if count - known <= FEW:
        return Found(_exact(vectors, floor, known), 1.0, 0, "exact", _placed(vectors, known, homes, 1, seed)[1])
    if 0 < count - known <= known // ADDED_SHARE:
        edges, homes = _added(vectors, floor, known, homes, probes, seed)
        sample = sample // 2
    else:
        sketches, low = sketched(vectors, floor, seed)
        pivots = _drawn(count, probes, seed)
        cells = _nearest_pivots(sketches, sketches[pivots], probes)
        homes = pivots[cells[:, 0]].astype(np.int32)
        edges = Edges.joined(list(_within_cells(vectors, sketches, cells, floor, low))).reaching(known)
    recall, checked = estimated_recall(vectors, edges, floor, known, sample, seed)
    return Found(edges, recall, checked, f"cells: {len(np.unique(homes))}", homes)


def _added(
    vectors: np.ndarray, floor: float, known: int, homes: np.ndarray | None, probes: int, seed: int
) -> tuple[Edges, np.ndarray]:
    """Pairs with a row from `known` on: such rows visit three times as many cells, in which the known ones are at home."""
    fresh = near(vectors[known:], floor, probes=probes, seed=seed, sample=0).edges
    parts = [Edges(fresh.left + known, fresh.right + known, fresh.likeness)]
    visited, homes = _placed(vectors, known, homes, 3 * probes, seed)
    at_home, visits = np.argsort(homes[:known], kind="stable"), np.argsort(visited.reshape(-1), kind="stable")
    pivots = np.unique(homes[:known])
    bounds = [
        np.searchsorted(cell_of, pivots, side) for cell_of in (homes[at_home], visited.reshape(-1)[visits]) for side in SIDES
    ]
    for begin, end, visit_begin, visit_end in zip(*bounds, strict=True):
        new = known + visits[visit_begin:visit_end] // visited.shape[1]
        parts += _between(vectors, at_home[begin:end], new, floor)
    return Edges.joined(parts), homes


def _between(vectors: np.ndarray, some: np.ndarray, others: np.ndarray, floor: float) -> Iterator[Edges]:
    """Pairs of a row of one kind with a row of the other."""
    for start in range(0, len(others), BLOCK):
        right = others[start : start + BLOCK]
        b = _single(vectors[right])
        for begin in range(0, len(some), BLOCK):
            left = some[begin : begin + BLOCK]
            i, j, cosine = _products(_single(vectors[left]), b, floor)
            yield Edges(left[i], right[j], cosine)


def _placed(vectors: np.ndarray, known: int, homes: np.ndarray | None, probes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The pivots whose cells each row from `known` on visits, the nearest first; and the homes of all rows, drawn if need be."""
    pivots = _drawn(known, probes, seed)
    if homes is None or (homes < 0).any() or 2 * len(np.unique(homes)) < len(pivots):
        sketches = sketched(vectors[:known], 1.0, seed)[0]
        homes = pivots[_nearest_pivots(sketches, sketches[pivots], 1)[:, 0]]
    pivots = np.unique(homes)
    ends = sketched(np.concatenate([vectors[pivots], vectors[known:]]), 1.0, seed)[0]
    visited = pivots[_nearest_pivots(ends[len(pivots) :], ends[: len(pivots)], probes)]
    return visited, np.concatenate([homes, visited[:, 0]]).astype(np.int32)


def _exact(vectors: np.ndarray, floor: float, known: int) -> Edges:
    """Every pair with a row from `known` on."""
    parts = []
    for right in range(known, len(vectors), BLOCK):
        b = _single(vectors[right : right + BLOCK])
        for left in range(0, right + len(b), BLOCK):
            i, j, cosine = _products(_single(vectors[left : left + BLOCK]), b, floor)
            i, j = i + left, j + right
            below = i < j
            parts.append(Edges(i[below], j[below], cosine[below]))
    return Edges.joined(parts)


def _single(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows, np.float32)


def _products(a: np.ndarray, b: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row of a, row of b, cosine) where the cosine is at or above the floor."""
    cosines = a @ b.T
    flat = np.flatnonzero(cosines >= np.float32(floor))
    return flat // len(b), flat % len(b), np.minimum(cosines.reshape(-1)[flat], np.float32(1))


def sketched(vectors: np.ndarray, floor: float, seed: int) -> tuple[np.ndarray, float]:
    """Short vectors whose cosines are nearly those of the long ones, (N, SKETCHED) float32, and the floor to hold theirs against.

    A random projection; the cosine c of two sketches has a standard error of (1 - c^2) / sqrt(SKETCHED). Source: W. Johnson,
    J. Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", 1984.
    """
    width = vectors.shape[1]
    if width <= SKETCHED * 3 // 2:
        return vectors, floor
    random = np.random.default_rng(seed).standard_normal((width, SKETCHED))
    directions = np.linalg.qr(random)[0].astype(np.float32)
    short = np.empty((len(vectors), SKETCHED), np.float32)
    for start in range(0, len(vectors), ASSIGNED_AT_ONCE):
        part = _single(vectors[start : start + ASSIGNED_AT_ONCE]) @ directions
        short[start : start + len(part)] = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
    return short, floor - SLACK * (1 - floor * floor) / SKETCHED**0.5


def _true(vectors: np.ndarray, left: np.ndarray, right: np.ndarray, floor: float) -> Edges:
    """The pairs whose cosine reaches the floor, of those whose sketches did."""
    cosine = np.empty(len(left), np.float32)
    for start in range(0, len(left), ASSIGNED_AT_ONCE):
        some = slice(start, start + ASSIGNED_AT_ONCE)
        cosine[some] = np.einsum("nd,nd->n", _single(vectors[left[some]]), _single(vectors[right[some]]))
    return Edges(left, right, np.minimum(cosine, np.float32(1))).above(floor)


def _drawn(count: int, probes: int, seed: int) -> np.ndarray:
    """The rows that are pivots, ascending."""
    pivots = min(max(int(PIVOTS_PER_ROOT * count**0.5), probes), count)
    return np.sort(np.random.default_rng(seed).choice(count, pivots, replace=False))


def _nearest_pivots(vectors: np.ndarray, pivots: np.ndarray, probes: int) -> np.ndarray:
    """The nearest pivots of each row, the very nearest first, (N, probes) int32."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(_single(pivots))
    cells = np.empty((len(vectors), min(probes, len(pivots))), np.int32)
    for start in range(0, len(vectors), ASSIGNED_AT_ONCE):
        part = _single(vectors[start : start + ASSIGNED_AT_ONCE])
        cells[start : start + len(part)] = index.search(part, cells.shape[1])[1]
    return cells


def _within_cells(vectors: np.ndarray, sketches: np.ndarray, cells: np.ndarray, floor: float, low: float) -> Iterator[Edges]:
    """Pairs of a row at home in a cell with a row that is at home there too or has it among its nearest.

    low: the floor for the cosines of sketches.
    """
    order = np.argsort(cells.T.reshape(-1), kind="stable")  # by cell; those at home come first, then those that visit
    cell_of, rows, visits = cells.T.reshape(-1)[order], order % len(cells), order // len(cells)
    begins = np.flatnonzero(np.r_[True, cell_of[1:] != cell_of[:-1]])
    for begin, end in pairwise([*begins.tolist(), len(order)]):
        home = int(np.count_nonzero(visits[begin:end] == 0))
        if home and end - begin > 1:
            yield from _cell(vectors, sketches, rows[begin:end], home, floor, low)


def _cell(vectors: np.ndarray, sketches: np.ndarray, members: np.ndarray, home: int, floor: float, low: float) -> Iterator[Edges]:
    """Pairs of one cell: the first `home` members with each other and with the others."""
    gathered = _single(sketches[members])
    for left in range(0, home, BLOCK):
        some = slice(left, min(left + BLOCK, home))
        for right in range(left, len(members), BLOCK):
            others = slice(right, right + BLOCK)
            i, j, _ = _products(gathered[some], gathered[others], low)
            if len(i) * CROWDED > gathered[some].shape[0] * gathered[others].shape[0]:
                i, j, cosine = _products(_single(vectors[members[some]]), _single(vectors[members[others]]), floor)
                once = i + left < j + right
                yield Edges(members[some][i[once]], members[others][j[once]], cosine[once])
            else:
                once = i + left < j + right
                yield _true(vectors, members[some][i[once]], members[others][j[once]], floor)


def estimated_recall(
    vectors: np.ndarray, edges: Edges, floor: float, known: int = 0, sample: int = SAMPLE, seed: int = 0
) -> tuple[float, int]:
    """Share of the pairs of a random sample of rows that are among the edges, against exact search; and those pairs."""
    if not sample:
        return float("nan"), 0
    rows = known + np.sort(np.random.default_rng(seed + 1).choice(len(vectors) - known, min(sample, len(vectors) - known), False))
    asked = _single(vectors[rows])
    lefts, rights = [], []
    for start in range(0, len(vectors), BLOCK):
        i, j, _ = _products(asked, _single(vectors[start : start + BLOCK]), floor)
        lefts.append(rows[i])
        rights.append(j + start)
    left, right = np.concatenate(lefts), np.concatenate(rights)
    low, high = np.minimum(left, right), np.maximum(left, right)
    true = np.unique((low.astype(np.uint64) << np.uint64(32) | high.astype(np.uint64))[low != high])
    if not len(true):
        return float("nan"), 0
    mine = edges.left.astype(np.uint64) << np.uint64(32) | edges.right.astype(np.uint64)
    return float(np.isin(true, mine).mean()), len(true)


def near_within(
    vectors: np.ndarray,
    scopes: np.ndarray,
    floor: float,
    known: int = 0,
    *,
    homes: np.ndarray | None = None,
    **options: int,
) -> Found:
    """As `near`, of rows with the same scope alone. scopes: (N,) whole numbers."""
    if not len(scopes) or (scopes == scopes[0]).all():
        return near(vectors, floor, known, homes=homes, **options)
    order = np.argsort(scopes, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(scopes[order]) != 0])
    sizes = np.diff(np.r_[begins, len(order)])
    placed = np.full(len(scopes), -1, np.int32)
    placed[:known] = -1 if homes is None else homes
    parts = [Found(_packed(vectors, scopes, order[np.repeat(sizes <= TOGETHER, sizes)], floor).reaching(known), 1.0, 0, "exact")]
    for begin, size in zip(begins[sizes > TOGETHER].tolist(), sizes[sizes > TOGETHER].tolist(), strict=True):
        rows = order[begin : begin + size]
        before = int(np.searchsorted(rows, known))
        if before == size:
            continue
        theirs = placed[rows[:before]]
        at_home = np.searchsorted(rows, theirs) if before and (theirs >= 0).all() else None
        found = near(vectors[rows], floor, before, homes=at_home, **options)
        if found.homes is not None:
            placed[rows] = rows[found.homes]
        parts.append(found._replace(edges=Edges(rows[found.edges.left], rows[found.edges.right], found.edges.likeness)))
    return together(parts)._replace(homes=placed if (placed >= 0).any() else None)


def _packed(vectors: np.ndarray, scopes: np.ndarray, order: np.ndarray, floor: float) -> Edges:
    """Pairs within many small scopes, several of them in a product. order: their rows, scope by scope."""
    ends = np.flatnonzero(np.r_[np.diff(scopes[order]) != 0, True]) + 1 if len(order) else np.zeros(0, np.int64)
    parts, begin = [], 0
    while begin < len(order):
        end = int(ends[max(int(np.searchsorted(ends, begin + TOGETHER, side="right")) - 1, 0)])
        rows = order[begin:end]
        some = _single(vectors[rows])
        i, j, cosine = _products(some, some, floor)
        inside = (rows[i] < rows[j]) & (scopes[rows[i]] == scopes[rows[j]])
        parts.append(Edges(rows[i[inside]], rows[j[inside]], cosine[inside]))
        begin = end
    return Edges.joined(parts)


def together(parts: list[Found]) -> Found:
    """What several searches found; the recall is that of the approximate ones, each counting by the pairs it was checked on."""
    checked = sum(part.checked for part in parts)
    recall = sum(part.recall * part.checked for part in parts if part.checked) / checked if checked else 1.0
    how = "; ".join(sorted({part.how for part in parts})) or "exact"
    return Found(Edges.joined([part.edges for part in parts]), recall, checked, how)
