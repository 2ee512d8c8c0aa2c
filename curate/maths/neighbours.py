"""Which vectors lie near each other: pairs whose cosine reaches a floor, exact for few rows, by cells for many.

Beyond EXACT_BELOW rows, cells are drawn around pivots that are rows picked at random: no training but the assignment. A row
is compared with the rows of its own cell and of the nearest other ones, block by block, as matrix products. FAISS assigns rows
to cells and makes the exact search that the recall is estimated against. Source: J. Johnson et al., "Billion-scale similarity
search with GPUs", IEEE TBD 2019 (inverted files); pivots instead of k-means after E. Chavez et al., "Searching in metric spaces",
ACM CSUR 2001.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from curate.maths.jaccard import Edges
from curate.maths.shingles import mixed

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
ASSIGNED_AT_ONCE = 65_536
SAMPLE = 300
"""Rows searched for exactly, to tell the recall."""


class Found(NamedTuple):
    """What a search found."""

    edges: Edges
    recall: float
    """Share of the pairs at or above the floor that were found, estimated on a sample of rows; NaN if the sample had none."""
    checked: int
    """Pairs of the sample that the recall rests on; 0 after an exact search."""
    how: str
    """exact, or cells with their number."""


def near(
    vectors: np.ndarray,
    floor: float,
    known: int = 0,
    *,
    exact_below: int = EXACT_BELOW,
    probes: int = PROBES,
    seed: int = 0,
    sample: int = SAMPLE,
) -> Found:
    """Pairs of rows whose cosine is `floor` or more. vectors: (N, D) float32 or float16 of unit length.

    known: pairs among so many first rows are left out. Pairs found are exact; only above `exact_below` rows may some be missed.
    """
    count = len(vectors)
    if count <= exact_below or count - known <= 64:
        return Found(_exact(vectors, floor, known), 1.0, 0, "exact")
    sketches, low = sketched(vectors, floor, seed)
    if known:
        pivots, edges = _added(vectors, sketches, floor, low, known, probes, seed)
    else:
        pivots, cells = _cells(sketches, probes, seed)
        edges = Edges.joined([_true(vectors, *pairs, floor) for pairs in _within_cells(sketches, cells, low)])
    recall, checked = estimated_recall(vectors, edges, floor, known, sample, seed)
    return Found(edges, recall, checked, f"cells: {pivots}")


def _added(
    vectors: np.ndarray, sketches: np.ndarray, floor: float, low: float, known: int, probes: int, seed: int
) -> tuple[int, Edges]:
    """Pairs with a row from `known` on: such rows visit twice as many cells, in which the known ones are at home."""
    fresh = near(vectors[known:], floor, probes=probes, seed=seed, sample=0).edges
    parts = [Edges(fresh.left + known, fresh.right + known, fresh.likeness)]
    pivots, homes, visited = _homes(sketches, known, 2 * probes, seed)
    at_home, visits = np.argsort(homes, kind="stable"), np.argsort(visited.reshape(-1), kind="stable")
    begins = np.searchsorted(homes[at_home], np.arange(pivots + 1))
    visit_begins = np.searchsorted(visited.reshape(-1)[visits], np.arange(pivots + 1))
    for cell in range(pivots):
        old = at_home[begins[cell] : begins[cell + 1]]
        new = known + visits[visit_begins[cell] : visit_begins[cell + 1]] // visited.shape[1]
        if not len(old) or not len(new):
            continue
        for start in range(0, len(old), BLOCK):
            some = old[start : start + BLOCK]
            i, j, cosine = _products(_single(sketches[some]), _single(sketches[new]), low)
            parts.append(_true(vectors, some[i], new[j], cosine, floor))
    return pivots, Edges.joined(parts)


def _homes(sketches: np.ndarray, known: int, probes: int, seed: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of cells, drawn from the known rows; the cell of each of them, and the `probes` nearest of each other row."""
    pivots, homes = _cells(sketches[:known], 1, seed)
    return pivots, homes[:, 0], _nearest_pivots(sketches[known:], sketches[_drawn(known, pivots, seed)], probes)


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


def _true(vectors: np.ndarray, left: np.ndarray, right: np.ndarray, _: np.ndarray, floor: float) -> Edges:
    """The pairs whose cosine reaches the floor, of those whose sketches did."""
    cosine = np.empty(len(left), np.float32)
    for start in range(0, len(left), ASSIGNED_AT_ONCE):
        some = slice(start, start + ASSIGNED_AT_ONCE)
        cosine[some] = np.einsum("nd,nd->n", _single(vectors[left[some]]), _single(vectors[right[some]]))
    return Edges(left, right, np.minimum(cosine, np.float32(1))).above(floor)


def _drawn(count: int, pivots: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).choice(count, pivots, replace=False))


def _cells(vectors: np.ndarray, probes: int, seed: int) -> tuple[int, np.ndarray]:
    """The number of cells, and the `probes` nearest of each row, (N, probes) int32."""
    count = len(vectors)
    pivots = min(max(int(PIVOTS_PER_ROOT * count**0.5), probes), count)
    return pivots, _nearest_pivots(vectors, vectors[_drawn(count, pivots, seed)], probes)


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


def _within_cells(vectors: np.ndarray, cells: np.ndarray, floor: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of a row at home in a cell with a row that is at home there too or has it among its nearest."""
    order = np.argsort(cells.T.reshape(-1), kind="stable")  # by cell; those at home come first, then those that visit
    cell_of, rows, visits = cells.T.reshape(-1)[order], order % len(cells), order // len(cells)
    begins = np.flatnonzero(np.r_[True, cell_of[1:] != cell_of[:-1]])
    for begin, end in pairwise([*begins.tolist(), len(order)]):
        home = int(np.count_nonzero(visits[begin:end] == 0))
        if home and end - begin > 1:
            yield from _cell(vectors, rows[begin:end], home, floor)


def _cell(
    vectors: np.ndarray, members: np.ndarray, home: int, floor: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of one cell: the first `home` members with each other and with the others."""
    gathered = _single(vectors[members])
    for left in range(0, home, BLOCK):
        for right in range(left, len(members), BLOCK):
            i, j, cosine = _products(gathered[left : min(left + BLOCK, home)], gathered[right : right + BLOCK], floor)
            i, j = i + left, j + right
            once = i < j
            yield members[i[once]], members[j[once]], cosine[once]


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


def near_within(vectors: np.ndarray, scopes: np.ndarray, floor: float, known: int = 0, **options: int) -> Found:
    """As `near`, of rows with the same scope alone. scopes: (N,) whole numbers."""
    if not len(scopes) or (scopes == scopes[0]).all():
        return near(vectors, floor, known, **options)
    order = np.argsort(scopes, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(scopes[order]) != 0])
    parts: list[Found] = []
    for begin, end in pairwise([*begins.tolist(), len(order)]):
        rows = order[begin:end]
        before = int(np.searchsorted(rows, known))
        if len(rows) < 2 or before == len(rows):
            continue
        found = near(vectors[rows], floor, before, **options)
        parts.append(found._replace(edges=Edges(rows[found.edges.left], rows[found.edges.right], found.edges.likeness)))
    return together(parts)


def together(parts: list[Found]) -> Found:
    """What several searches found; the recall is that of the approximate ones, each counting by the pairs it was checked on."""
    checked = sum(part.checked for part in parts)
    recall = sum(part.recall * part.checked for part in parts if part.checked) / checked if checked else 1.0
    how = "; ".join(sorted({part.how for part in parts})) or "exact"
    return Found(Edges.joined([part.edges for part in parts]), recall, checked, how)


def same_rows(vectors: np.ndarray, scopes: np.ndarray) -> np.ndarray:
    """The first row whose vector and scope are the very same, (N,) int64."""
    raw = np.ascontiguousarray(vectors).view(np.uint16)
    total = mixed(scopes)
    for start in range(0, len(raw), ASSIGNED_AT_ONCE):
        part = raw[start : start + ASSIGNED_AT_ONCE].astype(np.uint64)
        total[start : start + len(part)] += (part * mixed(np.arange(raw.shape[1]))).sum(axis=1, dtype=np.uint64)
    _, at, which = np.unique(mixed(total), return_index=True, return_inverse=True)
    first: np.ndarray = at[which]
    return first
