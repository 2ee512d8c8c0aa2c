"""Fit maps from a rater's own unit to shares in [0, 1], as knots for linear interpolation."""

import numpy as np

Knots = tuple[np.ndarray, np.ndarray]
MOST_KNOTS = 1001  # a thousandth of the rows between two knots: finer than any scale a goal is told on


def linear_knots(values: np.ndarray) -> Knots:
    """The smallest value at 0 and the largest at 1. A single value lies in the middle; no values give no knots."""
    if not len(values):
        return np.zeros(0), np.zeros(0)
    low, high = float(values.min()), float(values.max())
    return (np.array([low]), np.array([0.5])) if low == high else (np.array([low, high]), np.array([0.0, 1.0]))


def quantile_knots(values: np.ndarray) -> Knots:
    """Each distinct value at its mid-rank, stretched so that the smallest is at 0 and the largest at 1.

    Beyond 1,001 distinct values, those nearest to evenly spaced ranks stand for all.
    """
    distinct, counts = np.unique(values.astype(np.float64), return_counts=True)
    if len(distinct) < 2:
        return distinct, np.full(len(distinct), 0.5)
    ranks = np.cumsum(counts) - counts / 2
    shares = (ranks - ranks[0]) / (ranks[-1] - ranks[0])
    if len(distinct) > MOST_KNOTS:
        kept = np.unique(np.searchsorted(shares, np.linspace(0, 1, MOST_KNOTS)))
        distinct, shares = distinct[kept], shares[kept]
    return distinct, shares


def round_half_up(values: np.ndarray, digits: int) -> np.ndarray:
    """Values with `digits` decimals, halves rounded up: 6.5 and 7.5 become 7 and 8."""
    unit = 10.0**digits
    rounded: np.ndarray = np.floor(values * unit + 0.5) / unit
    return rounded
