"""Find preferences that run in a circle, and the weakest ones to give up so that none does.

A preference of i over j is an edge i -> j with a weight; edges to give up are a feedback arc set of least weight. Knots (strongly
connected components) of up to `EXACT` items are solved exactly by dynamic programming over subsets: Lawler, "A Comment on Minimum
Feedback Arc Sets", IEEE Transactions on Circuit Theory 11, 1964. Larger ones by local ratio, cycles packed one by one, each
giving up its least weight: Demetrescu and Finocchi, "Combinatorial Algorithms for Feedback Problems in Directed Graphs",
Information Processing Letters 86, 2003; then every item is moved to its best place in the order (sifting). What the packed cycles
gave up is a weight that no solution goes below.

Letters: I items, E edges.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from curate.maths.tangles import Edges, packed, path_between, sifted, topological

EXACT = 14
FEWER = 1e-9  # of the largest weight, added to each: of equal weights the fewest edges are given up


class Untangled(NamedTuple):
    """Which edges to give up, and why."""

    knot_E: np.ndarray
    """Number of the edge's knot; -1 for an edge in no cycle."""
    given_up_E: np.ndarray
    """Edges to give up, bool: without them there is no cycle, and each of them would close one."""
    cycles: dict[int, list[int]]
    """For each edge given up, the edges of a shortest cycle that it would close: itself first."""
    removed: np.ndarray
    """Weight given up in each knot, (K,)."""
    bound: np.ndarray
    """Weight that nobody can go below in each knot, (K,); `removed` itself in knots that were solved exactly."""


def knots(tail_E: np.ndarray, head_E: np.ndarray, items: int) -> np.ndarray:
    """For each edge the number of its strongly connected component, (E,), by its first item; -1 for an edge in no cycle."""
    from scipy.sparse import coo_matrix  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    graph = coo_matrix((np.ones(len(tail_E)), (tail_E, head_E)), shape=(items, items))
    _, label_I = connected_components(graph, directed=True, connection="strong")
    within = np.flatnonzero((label_I[tail_E] == label_I[head_E]) & (tail_E != head_E))
    found = np.full(len(tail_E), -1, dtype=np.int64)
    first_of_label = np.full(items, items, dtype=np.int64)
    np.minimum.at(first_of_label, label_I, np.arange(items))
    firsts, found[within] = np.unique(first_of_label[label_I[tail_E[within]]], return_inverse=True)
    return found


def untangled(tail_E: np.ndarray, head_E: np.ndarray, weight_E: np.ndarray, items: int, exact: int = EXACT) -> Untangled:
    """Edges to give up so that no cycle is left. No two edges have the same ends; weights are 0 or more.

    Of several answers of least weight the one with fewest edges counts, and of those the order in which items come by number:
    items and edges that are sorted by something of their own make the answer independent of where they stood.
    """
    knot_E = knots(tail_E, head_E, items)
    given_up, cycles, removed, bound = np.zeros(len(tail_E), dtype=bool), {}, [], []
    for edges_K in _by_number(knot_E):
        named, ends = np.unique(np.stack([tail_E[edges_K], head_E[edges_K]]), return_inverse=True)
        tail, head = ends.reshape(2, -1)
        weights = weight_E[edges_K].astype(np.float64)
        each = FEWER * max(float(weights.max()), 1.0)
        knot = Edges(tail, head, weights + each, len(named))
        if len(named) <= exact:
            order, least = best_order(knot), None
        else:
            least, order = packed(knot)
            order = sifted(knot, order)
        for edge, cycle in closing(knot, order):
            given_up[edges_K[edge]] = True
            cycles[int(edges_K[edge])] = edges_K[cycle].tolist()
        gone = float(weights[given_up[edges_K]].sum())
        removed.append(gone)
        bound.append(gone if least is None else float(np.clip(least - each * len(edges_K), 0, gone)))
    return Untangled(knot_E, given_up, cycles, np.array(removed), np.array(bound))


def _by_number(knot_E: np.ndarray) -> Iterator[np.ndarray]:
    inside = np.flatnonzero(knot_E >= 0)
    inside = inside[np.argsort(knot_E[inside], kind="stable")]
    if len(inside):
        yield from np.split(inside, np.flatnonzero(np.diff(knot_E[inside])) + 1)


def best_order(knot: Edges) -> np.ndarray:
    """Items in an order whose backward edges weigh least, (I,). Of equal ones, larger numbers stand last.

    least[S] is the least weight of backward edges among the items of S, placed before all others; the last of them, v, adds
    its edges to the others of S.
    """
    count = knot.items
    cost = np.zeros((count, count))
    cost[knot.tail_E, knot.head_E] = knot.weight_E
    to_set = np.zeros((count, 1 << count))  # (v, S): weight of the edges from v to items of S
    for item in range(count):
        to_set[:, 1 << item : 2 << item] = to_set[:, : 1 << item] + cost[:, item : item + 1]
    sets = np.arange(1 << count)
    sizes = np.array([bin(each).count("1") for each in sets])
    least, last = np.zeros(1 << count), np.zeros(1 << count, dtype=np.int64)
    slack = FEWER * float(knot.weight_E.max()) / 4
    for size in range(1, count + 1):
        layer = sets[sizes == size]
        best, which = np.full(len(layer), np.inf), np.zeros(len(layer), dtype=np.int64)
        for item in reversed(range(count)):
            before = layer ^ (1 << item)
            found = np.where(layer >> item & 1, least[before] + to_set[item, before], np.inf)
            better = found < best - slack
            best, which = np.where(better, found, best), np.where(better, item, which)
        least[layer], last[layer] = best, which
    order, left = [], (1 << count) - 1
    while left:
        order.append(int(last[left]))
        left ^= 1 << order[-1]
    return np.array(order[::-1])


def closing(knot: Edges, order: np.ndarray) -> Iterator[tuple[int, list[int]]]:
    """Backward edges that would close a cycle of forward ones, heaviest last to be given up, each with such a cycle."""
    place = np.empty(knot.items, dtype=np.int64)
    place[order] = np.arange(knot.items)
    backward = place[knot.head_E] < place[knot.tail_E]
    kept: list[dict[int, int]] = [{} for _ in range(knot.items)]
    for edge in np.flatnonzero(~backward).tolist():
        kept[knot.tail_E[edge]][int(knot.head_E[edge])] = edge
    gone = np.flatnonzero(backward)
    for edge in gone[np.lexsort((gone, -knot.weight_E[gone]))].tolist():
        tail, head = int(knot.tail_E[edge]), int(knot.head_E[edge])
        path = path_between(kept, head, tail, place)
        if path is None:  # it closes nothing: it stays, and the order makes room for it
            kept[tail][head] = edge
            place = topological(kept)
        else:
            yield edge, [edge, *path]
