"""Put the scores of different raters on one scale: standard scores and quantiles, fitted once and applied anywhere."""

import numpy as np

MAX_KNOTS = 1024
"""Knots of a stored distribution: at most 1/511 of rank is lost between them, and nothing up to that many values."""


def moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and population standard deviation of (N,) values without NaN; (NaN, NaN) of none, exactly 0 spread of equals."""
    if not len(values):
        return float("nan"), float("nan")
    wide = values.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    # equal values would leave a spread of rounding errors, and dividing by it would make noise of them
    return (low, 0.0) if low == high else (float(wide.mean()), float(wide.std()))


def standard_score(values: np.ndarray, mean: float, spread: float) -> np.ndarray:
    """(x - mean) / spread, (N,) float64; NaN stays NaN. A rater without spread tells nothing apart: 0 for every score."""
    centred = values.astype(np.float64) - mean
    return np.where(np.isnan(centred), np.nan, 0.0) if spread == 0 else centred / spread


def distribution(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots of the mid-rank empirical distribution of (N,) values without NaN: values ascending, and their ranks in (0, 1).

    The rank of x is the share of values below x plus half the share equal to x, so that ties meet in the middle and the
    ranks average to one half. Beyond MAX_KNOTS distinct values, those on both sides of evenly spaced ranks are kept.
    """
    if not len(values):
        return np.empty(0), np.empty(0)
    knots, counts = np.unique(values.astype(np.float64), return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / len(values)
    if len(knots) > MAX_KNOTS:
        # both sides of each target: a value that many rows share makes a jump, and the jump keeps both its ends
        targets = np.linspace(ranks[0], ranks[-1], MAX_KNOTS // 2)
        above = np.searchsorted(ranks, targets, side="left").clip(max=len(ranks) - 1)
        below = (np.searchsorted(ranks, targets, side="right") - 1).clip(min=0)
        kept = np.unique(np.concatenate([above, below]))
        knots, ranks = knots[kept], ranks[kept]
    return knots, ranks


def quantile(values: np.ndarray, knots: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Ranks of (N,) values in a fitted distribution, linear between knots, (N,) float64; NaN stays NaN."""
    if not len(knots):
        return np.full(len(values), np.nan)
    at: np.ndarray = np.interp(values.astype(np.float64), knots, ranks)
    return at
