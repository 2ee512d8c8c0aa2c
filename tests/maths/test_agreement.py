"""Agreement of raters, beside scipy and by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import kendalltau, spearmanr

from curate.maths import agreement


def test_orders_agree_as_scipy_says_where_nothing_is_tied() -> None:
    random = np.random.default_rng(0)
    one, other = (np.array([random.permutation(5) for _ in range(40)], float) for _ in "ab")
    for how, statistic in (("kendall", kendalltau), ("spearman", spearmanr)):
        wanted = [(statistic(a, b).statistic + 1) / 2 for a, b in zip(one, other, strict=True)]
        assert agreement.order_agreement(one, other, how) == pytest.approx(wanted)  # type: ignore[arg-type]


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
