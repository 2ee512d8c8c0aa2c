"""Pairs held while they are found: of a crowd of rows all alike there are more than there is room for.

`Held` leaves out what goes beyond so many pairs of a row, and tells which rows; `Spanning` leaves out what connects no rows that
are not connected better.
"""

from typing import Any

import numpy as np

from curate.maths.jaccard import Edges

HELD_OF_ROW = 400
"""Pairs held of a row with rows before it."""
HELD = 8_000_000
"""Pairs held in all, 160 MB, from which on no more than FEW_OF_ROW are held of a row."""
FEW_OF_ROW = 16


PENDING = 4_000_000
"""Pairs from which on those that connect nothing are left out."""


class Held:
    """Pairs of `count` rows. Those of a row with rows before it are taken in their order, up to a limit.

    already: pairs that are held elsewhere.
    """

    def __init__(self, count: int, of_row: int = HELD_OF_ROW, already: int = 0) -> None:
        self.of_row, self.number = of_row, already
        self.taken = np.zeros(count, np.int32)
        self.left_out = np.zeros(count, bool)
        """(N,) rows of which pairs with rows before them may have been left out."""
        self.parts: list[Edges] = []

    def another(self, count: int) -> "Held":
        """For other rows, where these are held, too."""
        return Held(count, self.of_row, self.number)

    @property
    def limit(self) -> int:
        """Pairs of a row."""
        return self.of_row if self.number < HELD else min(FEW_OF_ROW, self.of_row)

    def open(self, rows: np.ndarray) -> np.ndarray:
        """Which rows there is room for, (R,) bool; of the others pairs are left out from now on."""
        room: np.ndarray = self.taken[rows] < self.limit
        if not room.all():
            self.left_out[rows[~room]] = True
        return room

    def take(self, left: np.ndarray, right: np.ndarray, likeness: np.ndarray) -> None:
        """Hold pairs, each left < right, ordered by right and then left, as far as there is room."""
        if not len(right):
            return
        begins = np.flatnonzero(np.r_[True, right[1:] != right[:-1]])
        counts = np.diff(np.r_[begins, len(right)])
        rows = right[begins]
        room = np.maximum(self.limit - self.taken[rows], 0)
        if (counts > room).any():
            self.left_out[rows[counts > room]] = True
            fits = np.arange(len(right)) - np.repeat(begins, counts) < np.repeat(room, counts)
            left, right, likeness = left[fits], right[fits], likeness[fits]
            counts = np.minimum(counts, room)
        self.taken[rows] += counts.astype(np.int32)
        self.number += len(right)
        self.parts.append(Edges(left, right, likeness))

    def hold(self, edges: Edges) -> None:
        """Hold pairs that are within another's limits."""
        self.number += len(edges.left)
        self.parts.append(edges)

    def edges(self) -> Edges:
        """The pairs, in order; they are held no longer."""
        parts, self.parts = self.parts, []
        return Edges.joined(parts)


class Spanning(Held):
    """Pairs of `count` rows that connect all rows that any pairs connect, by the most alike ones: no more than there are rows.

    So every two rows are connected at any threshold as all pairs would connect them: a maximum spanning forest. Source:
    J. Kruskal, "On the shortest spanning subtree of a graph", 1956; T. C. Hu, "The maximum capacity route problem", 1961.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.labels = np.arange(count)
        self.least = np.full(count, np.float32(-np.inf))
        self.pending = 0

    def another(self, count: int) -> "Spanning":
        """For other rows."""
        return Spanning(count)

    def open(self, rows: np.ndarray) -> np.ndarray:
        """All of them."""
        return np.ones(len(rows), bool)

    def take(self, left: np.ndarray, right: np.ndarray, likeness: np.ndarray) -> None:
        """Hold pairs, unless all that connects the two rows is as alike."""
        label = self.labels[left]
        new = (label != self.labels[right]) | (likeness > self.least[label])
        self.hold(Edges(left[new], right[new], likeness[new]))

    def hold(self, edges: Edges) -> None:
        """Hold pairs."""
        super().hold(edges)
        self.pending += len(edges.left)
        if self.pending > PENDING:
            self.hold_forest()

    def hold_forest(self) -> None:
        """Of all pairs those that are held on."""
        forest = _spanning(super().edges(), len(self.labels))
        self.parts, self.pending = [forest], 0
        self.labels = _labels(forest, len(self.labels))
        self.least = np.full(len(self.labels), np.float32(np.inf))
        np.minimum.at(self.least, self.labels[forest.left], forest.likeness)

    def edges(self) -> Edges:
        """The pairs, in order; they are held no longer."""
        return _spanning(super().edges(), len(self.labels))


def _graph(edges: Edges, count: int) -> Any:
    from scipy.sparse import coo_array  # type: ignore[import-untyped]

    return coo_array((2.0 - edges.likeness.astype(np.float64), (edges.left, edges.right)), shape=(count, count)).tocsr()


def _spanning(edges: Edges, count: int) -> Edges:
    """The maximum spanning forest."""
    from scipy.sparse.csgraph import minimum_spanning_tree  # type: ignore[import-untyped]

    tree = minimum_spanning_tree(_graph(edges, count)).tocoo()
    return Edges.of(tree.row, tree.col, (2.0 - tree.data).astype(np.float32))


def _labels(edges: Edges, count: int) -> np.ndarray:
    """A number that connected rows have in common, (N,)."""
    from scipy.sparse.csgraph import connected_components

    found: np.ndarray = connected_components(_graph(edges, count), directed=False)[1]
    return found
