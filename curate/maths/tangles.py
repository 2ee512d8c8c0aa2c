"""Orders of many items whose preferences run in circles: cycles packed for a bound, an order improved item by item.

Sources: Demetrescu and Finocchi, "Combinatorial Algorithms for Feedback Problems in Directed Graphs", Information Processing
Letters 86, 2003 (local ratio); Matuszewski, Schönfeld and Molitor, "Using Sifting for k-Layer Straightline Crossing
Minimization", Graph Drawing 1999 (sifting).
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MOST_ROUNDS = 50
LEAST = 1e-12  # gain of a move below which it is rounding


class Edges(NamedTuple):
    """A directed graph without two edges from the same item to the same item."""

    tail_E: np.ndarray
    head_E: np.ndarray
    weight_E: np.ndarray
    """Above 0."""
    items: int


def packed(knot: Edges) -> tuple[float, np.ndarray]:
    """A weight that no feedback arc set goes below, and an order of the items whose backward edges are such a set.

    Cycles are taken one after the other, two and three long ones first, and give up as much as their lightest edge has left.
    """
    left: list[dict[int, float]] = [{} for _ in range(knot.items)]
    into: list[set[int]] = [set() for _ in range(knot.items)]
    for tail, head, weight in zip(knot.tail_E.tolist(), knot.head_E.tolist(), knot.weight_E.tolist(), strict=True):
        left[tail][head] = weight
        into[head].add(tail)

    def give_up(cycle: Sequence[int]) -> float:
        steps = list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
        least = min(left[tail][head] for tail, head in steps)
        for tail, head in steps:
            left[tail][head] -= least
            if left[tail][head] <= LEAST:
                del left[tail][head]
                into[head].discard(tail)
        return least

    bound = 0.0
    for tail, head in zip(knot.tail_E.tolist(), knot.head_E.tolist(), strict=True):
        if head in left[tail] and tail in left[head]:
            bound += give_up([tail, head])
        for third in sorted(into[tail].intersection(left[head])) if head in left[tail] else ():
            if head in left[tail]:
                bound += give_up([tail, head, third])
    for start in range(knot.items):
        while cycle := _cycle_from(left, start):
            bound += give_up(cycle)
    return bound, topological(left).argsort()


def _cycle_from(left: Sequence[dict[int, float]], start: int) -> list[int] | None:
    """A shortest cycle through an item, breadth first."""
    came, front = {start: start}, [start]
    while front:
        coming = []
        for item in front:
            for other in left[item]:
                if other == start:
                    cycle = [item]
                    while cycle[-1] != start:
                        cycle.append(came[cycle[-1]])
                    return cycle[::-1]
                if other not in came:
                    came[other] = item
                    coming.append(other)
        front = coming
    return None


def topological(edges: Sequence[dict[int, float]] | Sequence[dict[int, int]]) -> np.ndarray:
    """The place of each item in an order that all edges follow, (I,); smaller numbers first where nothing else decides."""
    waits = [0] * len(edges)
    for heads in edges:
        for head in heads:
            waits[head] += 1
    free = [item for item, count in enumerate(waits) if not count]
    place = np.empty(len(edges), dtype=np.int64)
    for number in range(len(edges)):
        item = heapq.heappop(free)
        place[item] = number
        for head in edges[item]:
            waits[head] -= 1
            if not waits[head]:
                heapq.heappush(free, head)
    return place


def sifted(knot: Edges, order: np.ndarray) -> np.ndarray:
    """The order after each item was moved to where it leaves the least weight backward, until no move gains anything."""
    ends = np.concatenate([knot.tail_E, knot.head_E])
    sort = np.argsort(ends, kind="stable")
    others = np.concatenate([knot.head_E, knot.tail_E])[sort]
    # behind an item it prefers, an edge runs backward; behind one that is preferred to it, it does no longer
    costs = np.concatenate([knot.weight_E, -knot.weight_E])[sort]
    starts = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=knot.items))])
    place = np.empty(knot.items, dtype=np.int64)
    place[order] = np.arange(knot.items)
    for _ in range(MOST_ROUNDS):
        moved = False
        for item in range(knot.items):
            part = slice(starts[item], starts[item + 1])
            at = place[others[part]]
            sort_at = np.argsort(at)
            at, cost = at[sort_at], np.concatenate([[0.0], np.cumsum(costs[part][sort_at])])
            now = int(np.searchsorted(at, place[item]))
            best = int(cost.argmin())
            if cost[best] < cost[now] - LEAST:
                moved = True
                _move(place, item, int(at[best - 1]) if best > now else int(at[best]))
        if not moved:
            break
    return place.argsort()


def _move(place: np.ndarray, item: int, to: int) -> None:
    """Put an item at a place, those between move up by one."""
    now = place[item]
    between = (place > now) & (place <= to) if to > now else (place >= to) & (place < now)
    place[between] += -1 if to > now else 1
    place[item] = to


def path_between(edges: Sequence[dict[int, int]], start: int, end: int, place: np.ndarray) -> list[int] | None:
    """Edges of a shortest path, or None; edges lead to later places alone."""
    last = place[end]
    came: dict[int, tuple[int, int]] = {}
    front = [start]
    while front and end not in came:
        coming = []
        for item in front:
            for other, edge in edges[item].items():
                if place[other] <= last and other not in came:
                    came[other] = (item, edge)
                    coming.append(other)
        front = coming
    if end not in came:
        return None
    path, item = [], end
    while item != start:
        item, edge = came[item]
        path.append(edge)
    return path[::-1]
