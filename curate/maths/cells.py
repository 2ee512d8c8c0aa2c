"""Pairs of near vectors by cells: rows that are near each other are compared, and few others.

Pivots are rows picked at random, and a row is a member of the cells of the pivots nearest to it: no training but the
assignment. Members of one cell are compared with each other, block by block, as matrix products of sketches; what passes is
verified. Assignment and comparison both grow as N^1.5; up to a million rows what grows as N makes the whole less steep. FAISS
assigns rows to cells. Source: J. Johnson et al., "Billion-scale similarity search with GPUs", IEEE TBD 2019 (inverted files);
pivots instead of k-means after E. Chavez et al., "Searching in metric spaces", ACM CSUR 2001.
"""

from itertools import pairwise

import numpy as np

from curate.maths.crowds import Held

BLOCK = 2048  # rows on the longer side of a matrix product
SIDE = 256  # rows on the shorter side, each compared with those before it: of a square more than half would be for nothing
PIVOTS_PER_ROOT = 4.0
"""Cells, per square root of the rows."""
SKETCHED = 48
"""Numbers that stand for a longer vector while candidates are looked for."""
SLACK = 3.0
"""Standard errors that the cosine of two sketches may fall short by: one pair at the floor of 740 is lost so, few above it."""
CROWDED = 64
"""Where one pair in so many may be near, computing all cosines as a matrix product is cheaper than looking rows up."""
AT_ONCE = 65_536  # rows assigned, or pairs verified, together


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
    for start in range(0, len(vectors), AT_ONCE):
        part = single(vectors[start : start + AT_ONCE]) @ directions
        short[start : start + len(part)] = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
    return short, floor - SLACK * (1 - floor * floor) / SKETCHED**0.5


def drawn(count: int, probes: int, seed: int) -> np.ndarray:
    """The rows that are pivots, ascending."""
    pivots = min(max(int(PIVOTS_PER_ROOT * count**0.5), probes), count)
    return np.sort(np.random.default_rng(seed).choice(count, pivots, replace=False))


def nearest_pivots(vectors: np.ndarray, pivots: np.ndarray, probes: int) -> np.ndarray:
    """The nearest pivots of each row, the very nearest first, (N, probes) int32."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(single(pivots))
    cells = np.empty((len(vectors), min(probes, len(pivots))), np.int32)
    for start in range(0, len(vectors), AT_ONCE):
        part = single(vectors[start : start + AT_ONCE])
        cells[start : start + len(part)] = index.search(part, cells.shape[1])[1]
    return cells


def single(rows: np.ndarray) -> np.ndarray:
    """As float32, one row behind the other."""
    return np.ascontiguousarray(rows, np.float32)


def products(a: np.ndarray, b: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row of a, row of b, cosine) where the cosine is at or above the floor, ascending."""
    cosines = a @ b.T
    flat = np.flatnonzero(cosines >= np.float32(floor))
    return flat // len(b), flat % len(b), np.minimum(cosines.reshape(-1)[flat], np.float32(1))


class CellJoin:
    """One comparison of rows by cells; what it finds goes to `held`.

    vectors: (N, D) of unit length. cells: (N, S), those each row is a member of. known: pairs among so many first rows are left
    out.
    """

    def __init__(self, vectors: np.ndarray, cells: np.ndarray, floor: float, known: int, held: Held) -> None:
        self.vectors, self.cells, self.floor, self.known, self.held = vectors, cells, floor, known, held
        self.memberships = np.ascontiguousarray(cells.T)
        self.waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.many = 0

    def run(self, sketches: np.ndarray, low: float) -> None:
        """Compare the members of every cell. low: the floor for the cosines of sketches."""
        flat = self.cells.reshape(-1)
        count = int(flat.max(initial=-1)) + 1
        order = np.argsort(flat.astype(np.uint16) if count <= 1 << 16 else flat, kind="stable")  # 16 bits: no comparisons
        begins = np.searchsorted(flat[order], np.arange(count + 1))
        for cell, (begin, end) in enumerate(pairwise(begins.tolist())):
            if end - begin > 1:
                self._cell(cell, sketches, order[begin:end] // self.cells.shape[1], low)
        self._verify_waiting()

    def _cell(self, cell: int, sketches: np.ndarray, members: np.ndarray, low: float) -> None:
        """Each member with those before it, as long as there is room for more pairs of it."""
        gathered = single(sketches[members])
        for start in range(int(np.searchsorted(members, self.known)), len(members), SIDE):
            rights = np.arange(start, min(start + SIDE, len(members)))
            for begin in range(0, int(rights[-1]), BLOCK):
                rights = rights[self.held.open(members[rights])]
                if not len(rights):
                    break
                lefts = slice(begin, min(begin + BLOCK, int(rights[-1])))
                i, j, _ = products(gathered[rights], gathered[lefts], low)
                self._block(cell, members[rights], members[lefts], i, j)

    def _block(self, cell: int, rights: np.ndarray, lefts: np.ndarray, i: np.ndarray, j: np.ndarray) -> None:
        """Verify the pairs of the i-th of `rights` and the j-th of `lefts`: at once where they are many, else later on."""
        many = len(rights) * len(lefts) // CROWDED
        ordered = lefts[j] < rights[i]
        i, j = i[ordered], j[ordered]
        if len(i) > many:
            new = self._first_met(lefts[j], rights[i], cell)
            i, j = i[new], j[new]
        if len(i) > many:
            cosines = single(self.vectors[rights]) @ single(self.vectors[lefts]).T
            self._take(lefts[j], rights[i], cosines[i, j])
        elif len(i):
            self.waiting.append((lefts[j], rights[i], np.full(len(i), cell, np.int32)))
            self.many += len(i)
            if self.many > AT_ONCE:
                self._verify_waiting()

    def _first_met(self, left: np.ndarray, right: np.ndarray, cell: np.ndarray | int) -> np.ndarray:
        """Which pairs share no cell of a lower number: so each is found once."""
        met = np.zeros(len(left), bool)
        others = [membership[right] for membership in self.memberships]
        for mine in (membership[left] for membership in self.memberships):
            lower = mine < cell
            for other in others:
                met |= lower & (mine == other)
        return ~met

    def _take(self, left: np.ndarray, right: np.ndarray, cosine: np.ndarray) -> None:
        """Hold the pairs that reach the floor."""
        near = cosine >= np.float32(self.floor)
        self.held.take(left[near], right[near], np.minimum(cosine[near], np.float32(1)))

    def _verify_waiting(self) -> None:
        """The pairs whose cosine reaches the floor, of those whose sketches did."""
        if not self.many:
            return
        left, right, cell = (np.concatenate(arrays) for arrays in zip(*self.waiting, strict=True))
        self.waiting, self.many = [], 0
        new = self._first_met(left, right, cell)
        left, right = left[new], right[new]
        order = np.lexsort((left, right))
        left, right = left[order], right[order]
        self._take(left, right, np.einsum("nd,nd->n", single(self.vectors[left]), single(self.vectors[right])))


def between(vectors: np.ndarray, some: np.ndarray, others: np.ndarray, floor: float, held: Held) -> None:
    """Pairs of one of `some` rows and one of `others`, which all come after them."""
    for start in range(0, len(others), BLOCK):
        right = others[start : start + BLOCK]
        for begin in range(0, len(some), BLOCK):
            right = right[held.open(right)]
            left = some[begin : begin + BLOCK]
            i, j, cosine = products(single(vectors[right]), single(vectors[left]), floor)
            held.take(left[j], right[i], cosine)


def each_with_each(vectors: np.ndarray, floor: float, known: int, held: Held) -> None:
    """Every pair with a row from `known` on."""
    for start in range(known, len(vectors), BLOCK):
        right = np.arange(start, min(start + BLOCK, len(vectors)))
        for begin in range(0, int(right[-1]), BLOCK):
            right = right[held.open(right)]
            if not len(right):
                break
            i, j, cosine = products(single(vectors[right]), single(vectors[begin : begin + BLOCK]), floor)
            left, later = j + begin, right[i]
            below = left < later
            held.take(left[below], later[below], cosine[below])
