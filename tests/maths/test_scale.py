"""Knots that take scores to shares of a scale."""

import numpy as np

from curate.maths.scale import linear_knots, quantile_knots, round_half_up


def test_many_values_are_told_by_knots_within_a_thousandth():
    values = np.random.default_rng(0).normal(size=50_000)
    scores, shares = quantile_knots(values)
    assert len(scores) <= 1001 and (scores[0], scores[-1]) == (values.min(), values.max())
    ranks = np.argsort(np.argsort(values)) / (len(values) - 1)
    assert np.abs(np.interp(values, scores, shares) - ranks).max() < 2e-3


def test_repeated_values_share_their_mean_rank():
    scores, shares = quantile_knots(np.array([1, 2, 2, 3]))
    assert scores.tolist() == [1, 2, 3] and shares.tolist() == [0, 0.5, 1]


def test_one_value_lies_in_the_middle_and_none_gives_nothing():
    for fit in (linear_knots, quantile_knots):
        scores, shares = fit(np.array([4.0, 4.0]))
        assert (scores.tolist(), shares.tolist()) == ([4], [0.5])
        assert len(fit(np.zeros(0))[0]) == 0


def test_halves_round_up():
    assert round_half_up(np.array([6.5, 7.5, -0.5, 0.49]), 0).tolist() == [7, 8, 0, 0]
    assert round_half_up(np.array([0.25]), 1).tolist() == [0.3]
