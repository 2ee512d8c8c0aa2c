"""Shortest combinations of gradients, weights of sets, and calibration in both orders."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from curate.maths.min_norm import balance, pair_weights, preference_ece, shortest


@pytest.mark.parametrize("seed", range(8))
def test_the_shortest_combination_is_that_of_a_general_solver(seed: int) -> None:
    random = np.random.default_rng(seed)
    gradients = random.normal(size=(4, 3 + seed)) + random.normal(size=(1, 3 + seed))
    share = shortest(gradients, steps=2000)
    assert share.min() >= 0 and share.sum() == pytest.approx(1)

    def length(weights: np.ndarray) -> float:
        return float(((weights @ gradients) ** 2).sum())

    told = minimize(length, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints={"type": "eq", "fun": lambda w: w.sum() - 1})
    assert length(share) <= told.fun + 1e-3 * length(np.full(4, 0.25))


def test_two_gradients_by_hand() -> None:
    assert shortest(np.array([[1.0, 0.0], [0.0, 2.0]])).tolist() == pytest.approx([0.8, 0.2], abs=1e-3)
    assert shortest(np.array([[1.0, 0.0], [3.0, 0.0]])).tolist() == pytest.approx([1, 0], abs=1e-3)
    assert shortest(np.array([[1.0, 1.0], [-1.0, -1.0]])).tolist() == pytest.approx([0.5, 0.5])


def sets(counts: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sets that want the same of the first feature and each a feature of its own."""
    random = np.random.default_rng(seed)
    which = np.repeat(np.arange(len(counts)), counts)
    x = random.normal(size=(len(which), 1 + len(counts)))
    x[:, 0] += 0.5
    x[np.arange(len(which)), 1 + which] += 1
    return x, which


def test_a_set_counts_as_one_however_large_it_is() -> None:
    x, which = sets((900, 300, 300))
    share = balance(x, which, steps=300).shares_K
    assert share.tolist() == pytest.approx([1 / 3] * 3, abs=0.06)
    assert balance(x, which, steps=300, even=True).shares_K.tolist() == pytest.approx([0.6, 0.2, 0.2])


def test_what_disagrees_with_the_others_is_not_drowned() -> None:
    """One set of four wants the opposite: every pair alike, it would lose; weighed, it is heard."""
    random = np.random.default_rng(3)
    which = np.repeat(np.arange(4), 200)
    x = random.normal(size=(800, 3)) + np.array([1.0, 0, 0])
    x[which == 3] *= -1
    found = balance(x, which, steps=300)
    assert found.shares_K[3] > 0.4
    right = [float((x[which == 3] @ head > 0).mean()) for head in (found.head_D, balance(x, which, even=True).head_D)]
    assert right[0] > right[1] + 0.05


def test_weights_follow_the_shortest_combination_slowly() -> None:
    """Two sets that want the same and one that wants another thing: 1/4, 1/4, 1/2 once they are normalised; at first 1/3 each."""
    x, which = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), np.arange(3)
    towards = np.array([1 / 4, 1 / 4, 1 / 2])
    assert balance(x, which, steps=1, momentum=0.9).shares_K == pytest.approx(0.9 / 3 + 0.1 * towards, abs=1e-4)
    assert balance(x, which, steps=1, momentum=0.0).shares_K == pytest.approx(towards, abs=1e-3)


def test_weights_of_pairs_are_one_on_average() -> None:
    which = np.array([0, 0, 0, 1])
    weights = pair_weights(np.array([0.25, 0.75]), which)
    assert weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 3]) and weights.mean() == pytest.approx(1)


def slow_ece(margins: list[float], bins: int) -> float:
    """Every pair in both orders, bin by bin."""
    told = [(1 / (1 + math.exp(-m)), 1) for m in margins] + [(1 / (1 + math.exp(m)), 0) for m in margins]
    total = 0.0
    for place in range(bins):
        inside = [(p, y) for p, y in told if place <= p * bins < place + 1 or (place == bins - 1 and p == 1)]
        total += abs(sum(p for p, _ in inside) - sum(y for _, y in inside))
    return total / len(told)


@given(
    st.lists(st.integers(-60, 60).map(lambda tenths: tenths / 10 + 0.003), min_size=1, max_size=30), st.sampled_from([5, 10, 20])
)
def test_calibration_agrees_with_the_slow_version(margins: list[float], bins: int) -> None:
    assert preference_ece(np.array(margins), bins) == pytest.approx(slow_ece(margins, bins), abs=1e-9)


def test_calibration_by_hand() -> None:
    ten_to_one = math.log(9)  # 0.9 and 0.1, right nine times in ten: nothing to blame
    assert preference_ece(np.array([ten_to_one] * 9 + [-ten_to_one])) == pytest.approx(0, abs=1e-12)
    assert preference_ece(np.array([ten_to_one] * 10)) == pytest.approx(0.1)
    assert preference_ece(np.array([-ten_to_one, np.nan])) == pytest.approx(0.9)
    assert math.isnan(preference_ece(np.array([np.nan])))
