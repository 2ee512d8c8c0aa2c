"""How many labels of some pairs are wrong, given the probability that each of them is: in all, and group by group.

Each label is a draw with its own probability. The variance of a share is that of the draws, p (1 - p) each, and that of the
probabilities about their mean, added up within clusters (pairs of a prompt are wrong together) before they are squared. For
pairs each in a cluster of its own this is the binomial variance. It gives the effective number of pairs, and that the
interval of Wilson, which stays within [0, 1].

Sources: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927; for clusters, Cochran,
Sampling Techniques, 3rd edition, 1977, section 9A (ratio of cluster totals); effective size, Korn and Graubard, 1998.
"""

from typing import NamedTuple

import numpy as np

Z = 1.959964
"""Standard deviations that 95 of 100 draws of a normal stay within."""
TINY = 1e-9


class Shares(NamedTuple):
    """The shares of wrong labels of G groups."""

    n: np.ndarray
    """Pairs of each group, (G,)."""
    value: np.ndarray
    """Mean probability of a wrong label, (G,); NaN of no pairs."""
    low: np.ndarray
    """Lower end of the interval that holds the share 95 times of 100, (G,)."""
    high: np.ndarray


def shares_wrong(wrong_N: np.ndarray, groups_N: np.ndarray, clusters_N: np.ndarray, groups: int) -> Shares:
    """The share of wrong labels of each group. wrong_N: probabilities; groups_N: 0 to groups - 1; clusters_N: any labels."""
    n = np.bincount(groups_N, minlength=groups)
    value = np.bincount(groups_N, wrong_N, groups) / np.maximum(n, 1)
    draws = np.bincount(groups_N, wrong_N * (1 - wrong_N), groups)
    off_C, group_C = _cluster_sums(wrong_N - value[groups_N], groups_N, clusters_N)
    between = np.bincount(group_C, off_C**2, groups)
    variance = (draws + between) / np.maximum(n, 1) ** 2
    binomial = value * (1 - value)
    varies = variance > 0
    effective = np.where(varies, binomial / np.where(varies, variance, 1.0), n)
    low, high = wilson(value, np.minimum(effective, n))
    none = n == 0
    return Shares(n, *(np.where(none, np.nan, part) for part in (value, low, high)))


def _cluster_sums(off_N: np.ndarray, groups_N: np.ndarray, clusters_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over pairs of one cluster and group, and the group of each."""
    _, clusters = np.unique(clusters_N, return_inverse=True)
    both, which = np.unique(groups_N.astype(np.int64) * (clusters.max(initial=0) + 1) + clusters, return_inverse=True)
    return np.bincount(which, off_N, len(both)), both // (clusters.max(initial=0) + 1)


def wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of a share seen in n draws; n may be any positive number."""
    size = np.maximum(n, TINY)
    centre = (share + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * np.sqrt(np.maximum(share * (1 - share), 0) / size + Z**2 / (4 * size**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def at_rate(wrong_N: np.ndarray, told: float, rate: float) -> np.ndarray:
    """Probabilities found under one share of wrong labels, as they would be under another: their odds times its odds' ratio.

    Where no label is wrong (told 0) nothing can be said of another share: the probabilities stay.
    """
    if not 0 < told < 1 or told == rate:
        return wrong_N
    ratio = rate * (1 - told) / max((1 - rate) * told, TINY)
    return np.asarray(ratio * wrong_N / np.maximum(1 - wrong_N + ratio * wrong_N, TINY))
