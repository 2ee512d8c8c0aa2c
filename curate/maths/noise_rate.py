"""How many labels are wrong, and how likely each is, from margins of models that were not trained on them.

A label is wrong with probability `noise`, whatever the pair; a right one agrees with the margin m as often as s(a m), s
the logistic function. So the label is as the margin says with noise + (1 - 2 noise) s(a m): both numbers are read off the
margins by maximum likelihood. Large margins still contradicted tell the noise; how fast agreement rises tells the scale.

Margins that tell labels no better than chance tell neither: whatever rate is likeliest then, no label is called wrong.
"""

from typing import NamedTuple

import numpy as np

NOISES = np.arange(0.0, 0.495, 0.01)
SCALES = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 12.0])
"""Of margins divided by their mean size."""
RESAMPLES = 200
CHANCE = 6.0
"""Twice the log-likelihood, nats, by which margins must tell labels better than chance: chi-square, two numbers, 5 in 100."""
CLUSTERS = 2000
"""Most parts that are resampled: more groups than that are put together at random, which leaves the spread as it is."""
TINY = 1e-9


class Noise(NamedTuple):
    """The share of wrong labels, with what it was read from."""

    rate: float
    low: float
    """Lower end of the interval that holds the rate in 95 of 100 resamples of groups."""
    high: float
    scale: float
    """Log odds of a right label per mean size of margin."""
    unit: float
    """Mean size of the margins."""
    likelihood: float
    """Mean log-likelihood of a label, nats; larger is better."""


def estimate(margins_N: np.ndarray, groups_N: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Noise:
    """The noise among labels with these out-of-fold margins. groups_N: rows that share a group are resampled together.

    Where the margins tell labels no better than chance, the rate is 0 and the interval all of [0, 0.49].
    Without resamples it is the likeliest rate, and there is no interval.
    """
    unit = float(np.abs(margins_N).mean()) or 1.0
    random = np.random.default_rng(seed)
    which, parts = _parts(groups_N, random) if resamples else (None, 1)
    sums_GQ = _sums(margins_N / unit, which, parts)
    best = int(sums_GQ.sum(axis=0).argmax())
    rate, scale = float(NOISES[best // len(SCALES)]), float(SCALES[best % len(SCALES)])
    likelihood = float(sums_GQ[:, best].sum() / len(margins_N))
    if not resamples:
        return Noise(rate, rate, rate, scale, unit, likelihood)
    drawn = np.stack([np.bincount(random.integers(parts, size=parts), minlength=parts) for _ in range(resamples)])
    rates = NOISES[(drawn @ sums_GQ).argmax(axis=1) // len(SCALES)]
    low, high = np.quantile(rates, [0.025, 0.975])
    if 2 * len(margins_N) * (likelihood + np.log(2)) < CHANCE:
        return Noise(0.0, 0.0, float(NOISES[-1]), scale, unit, likelihood)
    return Noise(rate, float(min(low, rate)), float(max(high, rate)), scale, unit, likelihood)


def _parts(groups_N: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, int]:
    """A number from 0 for what is resampled together, and how many there are."""
    distinct, which = np.unique(groups_N, return_inverse=True)
    if len(distinct) <= CLUSTERS:
        return which, len(distinct)
    return (random.permutation(len(distinct)) % CLUSTERS)[which], CLUSTERS


def _sums(margins_N: np.ndarray, which_N: np.ndarray | None, groups: int) -> np.ndarray:
    """Log-likelihood of each group's labels for each noise and scale, (groups, noises x scales). which: None of one group."""
    sums = np.empty((groups, len(NOISES), len(SCALES)))
    for place, scale in enumerate(SCALES):
        agree = logistic(scale * margins_N)
        for row, noise in enumerate(NOISES):
            likely = noise + (1 - 2 * noise) * agree + TINY
            sums[:, row, place] = _sum_of_logs(likely) if which_N is None else np.bincount(which_N, np.log(likely), groups)
    return sums.reshape(groups, -1)


def _sum_of_logs(values_N: np.ndarray) -> float:
    """Sum of the logarithms of numbers from TINY to 1, as that of products of sixteen: logarithms are what takes time."""
    whole = len(values_N) // 16 * 16
    products = np.multiply.reduce(values_N[:whole].reshape(16, -1), axis=0, dtype=np.float64)
    return float(np.log(products).sum() + np.log(values_N[whole:]).sum())


def logistic(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values))


def flip_probability(margins: np.ndarray, noise: Noise) -> np.ndarray:
    """Probability that each label is wrong, given its margin; NaN stays NaN. No noise: no label is."""
    agree = logistic(noise.scale / noise.unit * margins)
    wrong = noise.rate * (1 - agree)
    return np.asarray(wrong / np.maximum(wrong + (1 - noise.rate) * agree, TINY))


def calibration_error(probability: np.ndarray, happened: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean distance of probability and frequency over `bins` of equal width, weighted by rows.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, arXiv:1706.04599.
    """
    which = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = np.bincount(which, probability - happened, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(probability), 1))


def area_under_curve(score: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties half; NaN if either is missing."""
    total, positives = len(score), int(positive.sum())
    if positives in (0, total):
        return float("nan")
    distinct, which, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * (total - positives)))
