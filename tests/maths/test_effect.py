"""Effects against the textbook's formulas, and moments that add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.maths.effect import Spread, cohens_d, explained, pooled_sd

NUMBERS = st.lists(st.floats(-1e4, 1e4), max_size=20)


def test_cohens_d_of_two_small_groups() -> None:
    # means 2 and 5, both of variance 1
    assert cohens_d(Spread.of(np.array([1.0, 2.0, 3.0])), Spread.of(np.array([4.0, 5.0, 6.0]))) == pytest.approx(-3.0)


def test_groups_without_spread_or_of_one_have_no_effect() -> None:
    one, same = Spread.of(np.array([1.0])), Spread.of(np.array([2.0, 2.0]))
    assert pooled_sd(one, same) is None
    assert cohens_d(same, same) is None
    assert explained(one, same) is None


@given(NUMBERS, NUMBERS)
def test_spreads_add_up(first: list[float], second: list[float]) -> None:
    both = Spread.of(np.array(first)) + Spread.of(np.array(second))
    whole = Spread.of(np.array(first + second))
    assert both.n == whole.n
    assert both.mean == pytest.approx(whole.mean, abs=1e-6)
    assert both.squares == pytest.approx(whole.squares, rel=1e-6, abs=1e-3)


def test_what_is_no_number_is_left_out() -> None:
    assert Spread.of(np.array([1.0, np.nan, 3.0])) == Spread(2, 2.0, 2.0)


def test_what_is_explained_is_the_squared_correlation_with_the_group() -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(1.0, 2.0, 30), random.normal(0.0, 1.0, 50)
    group = np.repeat([1.0, 0.0], [30, 50])
    slow = np.corrcoef(group, np.concatenate([first, second]))[0, 1] ** 2
    assert explained(Spread.of(first), Spread.of(second)) == pytest.approx(slow)
