"""Which pairs are held where there are too many."""

import numpy as np
import pytest

from curate.maths import crowds
from curate.maths.crowds import Held, Spanning


def slow_forest(pairs: list[tuple[int, int, float]], count: int) -> float:
    """The likenesses of a maximum spanning forest, added up: Kruskal's way, pair by pair."""
    group, total = list(range(count)), 0.0
    for left, right, likeness in sorted(pairs, key=lambda pair: -pair[2]):
        if group[left] != group[right]:
            group = [group[left] if one == group[right] else one for one in group]
            total += likeness
    return total


@pytest.mark.parametrize("pending", [1, 5, 1000])
def test_what_spans_is_a_maximum_spanning_forest_however_often_it_is_made(monkeypatch: pytest.MonkeyPatch, pending: int) -> None:
    monkeypatch.setattr(crowds, "PENDING", pending)
    random = np.random.default_rng(0)
    ends = np.array([(i, j) for j in range(12) for i in range(j) if (i % 2 == j % 2)])
    likeness = random.permutation(np.linspace(0.5, 0.99, len(ends))).astype(np.float32)
    held = Spanning(12)
    for some in np.array_split(random.permutation(len(ends)), 6):
        held.take(ends[some, 0], ends[some, 1], likeness[some])
    found = held.edges()
    pairs = [(int(i), int(j), float(value)) for (i, j), value in zip(ends, likeness, strict=True)]
    assert len(found.left) == 10  # two groups of six, odd and even
    assert float(found.likeness.sum()) == pytest.approx(slow_forest(pairs, 12), abs=1e-5)


def test_a_row_has_so_many_pairs_with_rows_before_it_and_tells_that_some_are_left_out() -> None:
    held = Held(5, of_row=2)
    held.take(np.array([0, 0, 1, 2]), np.array([1, 3, 3, 3]), np.full(4, 0.9, np.float32))
    held.take(np.array([0]), np.array([4]), np.full(1, 0.9, np.float32))
    assert held.open(np.array([1, 3, 4])).tolist() == [True, False, True]
    found = held.edges()
    assert list(zip(found.left.tolist(), found.right.tolist(), strict=True)) == [(0, 1), (0, 3), (0, 4), (1, 3)]
    assert held.left_out.tolist() == [False, False, False, True, False]
