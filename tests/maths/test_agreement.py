"""Agreement of raters, beside scipy and by hand."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import kendalltau, spearmanr

from curate.maths import agreement


def test_orders_agree_as_scipy_says_where_nothing_is_tied() -> None:
    random = np.random.default_rng(0)
    one, other = (np.array([random.permutation(5) for _ in range(40)], float) for _ in "ab")
    for how, statistic in (("kendall", kendalltau), ("spearman", spearmanr)):
        wanted = [(statistic(a, b).statistic + 1) / 2 for a, b in zip(one, other, strict=True)]
        assert agreement.order_agreement(one, other, how) == pytest.approx(wanted)  # type: ignore[arg-type]


ORDERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=7)


@given(ORDERS)
def test_rank_correlation_is_scipys_with_ties_too(items: list[tuple[int, int]]) -> None:
    one, other = np.array(items, float).T
    wanted = 0.0 if len(set(one)) == 1 or len(set(other)) == 1 else spearmanr(one, other).statistic
    assert agreement.spearman_of(one[None], other[None]) == pytest.approx([wanted], abs=1e-12)


@given(ORDERS)
def test_kendall_is_a_count_of_pairs(items: list[tuple[int, int]]) -> None:
    found = [np.sign(a[0] - b[0]) * np.sign(a[1] - b[1]) for a, b in combinations(items, 2)]
    one, other = np.array(items, float).T
    assert agreement.kendall(one[None], other[None]) == pytest.approx([np.mean(found)])


@given(ORDERS, st.sampled_from(["kendall", "spearman"]))
def test_agreement_is_the_same_either_way_and_turns_with_an_order(items: list[tuple[int, int]], how: agreement.Order) -> None:
    one, other = (np.array(items, float).T)[:, None]
    found = agreement.order_agreement(one, other, how)
    assert 0 <= found[0] <= 1
    assert agreement.order_agreement(other, one, how) == pytest.approx(found)
    assert agreement.order_agreement(one, -other, how) == pytest.approx(1 - found)


def test_a_tie_counts_for_neither_order() -> None:
    one, other = np.array([[1.0, 2, 3], [1, 1, 1]]), np.array([[1.0, 1, 2], [1, 2, 3]])
    assert agreement.kendall(one, other) == pytest.approx([2 / 3, 0])


def test_top_wants_the_same_best_and_the_same_worst() -> None:
    one = np.array([[3.0, 2, 1]] * 3)
    other = np.array([[9.0, 8, 7], [9, 7, 8], [7, 8, 9]])
    assert agreement.order_agreement(one, other, "top").tolist() == [1, 0, 0]


def test_groups_are_compared_by_themselves_and_a_missing_score_leaves_a_row_out() -> None:
    groups = np.array([0, 1, 0, 1, 0, 2, 0])
    scores = np.array([[1, 1], [1, 2], [2, 2], [2, 1], [3, 3], [1, 1], [9, np.nan]])
    found = agreement.agreement_of_orders(groups, scores, "kendall")
    assert found == pytest.approx([1, 0, 1, 0, 1, np.nan, np.nan], nan_ok=True)


def test_three_raters_are_the_mean_of_every_two() -> None:
    scores = np.array([[1.0, 1, 2], [2, 2, 1]])
    assert agreement.agreement_of_orders(np.array([0, 0]), scores, "kendall") == pytest.approx([1 / 3, 1 / 3])


def test_the_spread_needs_two_marks() -> None:
    marks = np.array([[1.0, 4, 2], [3, 3, np.nan], [3, np.nan, np.nan]])
    assert agreement.spread(marks) == pytest.approx([3, 0, np.nan], nan_ok=True)


def test_the_closest_marks_count_and_fewer_where_there_are_no_more() -> None:
    marks = np.array([[4.0, 1, 0], [0, 4, np.nan], [4, 2, 3], [3, 0, np.nan]])  # a column a response
    # 3 4 4 of 0 3 4 4; of 0 1 2 4 the lowest; the mean of two
    assert agreement.closest_mean(marks, 3) == pytest.approx([11 / 3, 1, 1.5])
    assert agreement.closest_mean(np.full((2, 1), np.nan), 3) == pytest.approx([np.nan], nan_ok=True)


def test_divergence_is_that_of_scipy_and_null_where_one_is_silent() -> None:
    p = np.array([[0.9, 0.2], [0.6, 0.6], [1.0, 0.0], [0.5, np.nan]])
    wanted = [jensenshannon([a, 1 - a], [b, 1 - b], 2) ** 2 for a, b in p[:3]]
    assert agreement.divergence(p) == pytest.approx([*wanted, np.nan], abs=1e-12, nan_ok=True)
