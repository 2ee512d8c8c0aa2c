"""Choices held against slow, obvious versions, and the laws they keep."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from curate.maths import selection

POINTS = arrays.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=st.integers(-4, 4).map(float))
COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=5)


# -- places


def test_places_count_from_the_lowest_of_each_group() -> None:
    groups, order = np.array([1, 0, 1, 1, 0]), np.array([3.0, 5.0, 1.0, 1.0, np.nan])
    assert selection.places(groups, order).tolist() == [2, 0, 0, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_places_are_those_of_sorting_each_group_by_itself(rows: list[tuple[int, int]]) -> None:
    slow = [sum((o, j) < (order, i) for j, (g, o) in enumerate(rows) if g == group) for i, (group, order) in enumerate(rows)]
    groups, order = (np.array([row[k] for row in rows], dtype=np.int64) for k in (0, 1))
    assert selection.places(groups, order).tolist() == slow


# -- sharing out


def test_what_is_left_over_goes_to_the_largest_remainders() -> None:
    # 10 by 5 : 3 : 2.5 is 4.76, 2.86, 2.38
    assert selection.shared_out(10, np.array([5, 3, 2.5])).tolist() == [5, 3, 2]


@given(st.integers(0, 200), st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any))
def test_all_is_shared_out_and_nobody_is_a_row_from_his_share(total: int, shares: list[int]) -> None:
    found = selection.shared_out(total, np.array(shares))
    assert found.sum() == total
    assert (np.abs(found - total * np.array(shares) / sum(shares)) < 1 + 1e-6).all()


def test_the_scarcest_group_decides_how_many_there_are() -> None:
    assert selection.mixture(np.array([100, 10, 7]), np.array([2.0, 1.0, 0.0])).tolist() == [20, 10, 0]
    assert selection.mixture(np.array([100, 10, 7]), np.array([2.0, 1.0, 0.0]), 15).tolist() == [10, 5, 0]
    assert selection.mixture(np.array([100, 10]), np.array([2.0, 1.0]), 500).tolist() == [20, 10]


@given(COUNTS, st.data())
def test_a_mixture_takes_no_more_than_there_is_and_keeps_the_proportion(counts: list[int], data: st.DataObject) -> None:
    weights = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(counts), max_size=len(counts)).filter(any)), float)
    found = selection.mixture(np.array(counts), weights)
    assert (found <= counts).all() and (found[weights == 0] == 0).all()
    assert (np.abs(found - found.sum() * weights / weights.sum()) < 1 + 1e-6).all()
    exact = min(Fraction(count * int(weights.sum()), int(w)) for count, w in zip(counts, weights, strict=True) if w)
    assert found.sum() == next(t for t in range(int(exact), -1, -1) if (selection.shared_out(t, weights) <= counts).all())


# -- far from each other


def slow_farthest(points: np.ndarray, count: int, first: int) -> list[int]:
    chosen = [first]
    while len(chosen) < min(count, len(points)):
        left = [i for i in range(len(points)) if i not in chosen]
        chosen.append(max(left, key=lambda i: (min(((points[i] - points[c]) ** 2).sum() for c in chosen), -i)))
    return chosen


@given(POINTS, st.integers(1, 9), st.data())
def test_farthest_first_is_what_the_slow_version_chooses(points: np.ndarray, count: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(points) - 1))
    assert selection.farthest_first(points, count, first).tolist() == slow_farthest(points, count, first)


@settings(deadline=None)
@given(POINTS, st.integers(2, 4))
def test_farthest_first_keeps_at_least_half_the_best_smallest_distance(points: np.ndarray, count: int) -> None:
    count = min(count, len(points))

    def smallest(rows: tuple[int, ...]) -> float:
        return min((float(np.linalg.norm(points[a] - points[b])) for a, b in combinations(rows, 2)), default=np.inf)

    best = max(smallest(rows) for rows in combinations(range(len(points)), count))
    found = smallest(tuple(selection.farthest_first(points, count).tolist()))
    assert found == best or found >= best / 2 - 1e-9


# -- standing for others


def coverage(points: np.ndarray, rows: list[int]) -> float:
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    unit = np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 0)
    return float(np.maximum(unit @ unit[rows].T, 0).max(axis=1).sum()) if rows else 0.0


@settings(deadline=None)
@given(POINTS, st.integers(1, 4))
def test_each_choice_of_facility_location_gains_the_most(points: np.ndarray, count: int) -> None:
    chosen = selection.facility_location(points, count).tolist()
    assert len(chosen) == len(set(chosen)) == min(count, len(points))
    for place in range(len(chosen)):
        others = [i for i in range(len(points)) if i not in chosen[:place]]
        best = max(coverage(points, [*chosen[:place], i]) for i in others)
        assert coverage(points, chosen[: place + 1]) == pytest.approx(best)


@settings(deadline=None)
@given(POINTS, st.integers(1, 3))
def test_the_greedy_choice_reaches_its_guarantee(points: np.ndarray, count: int) -> None:
    best = max(coverage(points, list(rows)) for rows in combinations(range(len(points)), min(count, len(points))))
    assert coverage(points, selection.facility_location(points, count).tolist()) >= (1 - 1 / np.e) * best - 1e-9


def test_one_of_each_crowd_stands_for_it() -> None:
    points = np.array([[1, 0.1], [1, 0], [1, -0.1], [0, 1], [0.1, 1], [-1, -1]])
    first, second, third = sorted(selection.facility_location(points, 3).tolist())
    assert first in (0, 1, 2) and second in (3, 4) and third == 5


# -- others


def test_rows_may_stand_for_others_than_themselves() -> None:
    points, covered = np.array([[1.0, 0], [0, 1]]), np.array([[0.0, 1], [0.1, 1]])
    assert selection.facility_location(points, 1).tolist() == [0]
    assert selection.facility_location(points, 1, covered).tolist() == [1]


def test_columns_are_put_on_one_scale_and_what_is_missing_is_average() -> None:
    found = selection.standardised(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]]))
    assert found.tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]


def test_a_share_is_rounded_down_but_not_by_the_computer() -> None:
    assert [selection.rows_of_share(0.3, 10), selection.rows_of_share(0.29, 100), selection.rows_of_share(0.5, 3)] == [3, 29, 1]
