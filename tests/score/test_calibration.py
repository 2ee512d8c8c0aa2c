"""Scales of raters: standard scores and mid-rank quantiles, held against slow and obvious versions."""

import numpy as np
import pytest

from curate.maths import calibration


def midranks(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Share below plus half the share equal, by counting."""
    return np.array([np.mean(values < x) + np.mean(values == x) / 2 for x in at])


def test_standard_scores_count_deviations_from_the_mean() -> None:
    mean, spread = calibration.moments(np.array([2.0, 4.0, 6.0]))
    assert (mean, round(spread, 6)) == (4.0, 1.632993)
    assert calibration.standard_score(np.array([4.0, 6.0, np.nan]), 4.0, 2.0).tolist()[:2] == [0.0, 1.0]
    assert np.isnan(calibration.standard_score(np.array([np.nan]), 4.0, 2.0)[0])


def test_equal_scores_have_exactly_no_spread_and_standard_score_zero() -> None:
    values = np.full(1001, 0.1)  # whose rounded mean is not 0.1
    mean, spread = calibration.moments(values)
    assert spread == 0.0
    assert set(calibration.standard_score(values, mean, spread)) == {0.0}
    assert np.isnan(calibration.standard_score(np.array([np.nan]), mean, spread)[0])


def test_nothing_fitted_leaves_nothing_scored() -> None:
    assert np.isnan(calibration.moments(np.array([]))).all()
    knots, ranks = calibration.distribution(np.array([]))
    assert np.isnan(calibration.quantile(np.array([1.0, np.nan]), knots, ranks)).all()


def test_quantiles_of_a_few_values_are_their_midranks() -> None:
    values = np.array([3.0, 1.0, 1.0, 2.0])
    knots, ranks = calibration.distribution(values)
    assert knots.tolist() == [1.0, 2.0, 3.0]
    assert ranks.tolist() == [0.25, 0.625, 0.875]
    assert calibration.quantile(values, knots, ranks).tolist() == [0.875, 0.25, 0.25, 0.625]


def test_quantiles_outside_what_was_fitted_are_those_of_the_ends() -> None:
    knots, ranks = calibration.distribution(np.array([1.0, 2.0]))
    assert calibration.quantile(np.array([-9.0, 9.0]), knots, ranks).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).normal(size=5000),
        np.random.default_rng(2).lognormal(sigma=3, size=5000),
        np.concatenate([np.zeros(2500), np.random.default_rng(3).normal(size=2500)]),
        np.concatenate([np.full(2500, 9.0), np.random.default_rng(4).normal(size=2500)]),
        np.arange(1024.0),
    ],
    ids=["normal", "long tail", "half are equal", "the top is shared", "just as many as knots"],
)
def test_a_stored_distribution_is_within_one_in_five_hundred_of_the_exact_ranks(values: np.ndarray) -> None:
    knots, ranks = calibration.distribution(values)
    assert len(knots) <= calibration.MAX_KNOTS
    assert np.abs(calibration.quantile(values, knots, ranks) - midranks(values, values)).max() <= 1 / 500


def test_quantiles_keep_the_order() -> None:
    values = np.random.default_rng(5).normal(size=5000)
    knots, ranks = calibration.distribution(values)
    assert (np.diff(calibration.quantile(np.sort(values), knots, ranks)) > 0).all()
