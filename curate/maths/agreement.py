"""How far raters agree: on the order of a prompt's responses, on marks, and on which of two responses is better.

Letters: G groups (prompts) of K items each, R raters, N rows.
"""

from itertools import combinations
from typing import Literal

import numpy as np

from curate.maths.preference import same_sized

Order = Literal["kendall", "spearman", "top"]


def kendall(one_GK: np.ndarray, other_GK: np.ndarray) -> np.ndarray:
    """Kendall's tau of two orders, (G,) in [-1, 1]: pairs in the same order minus pairs in opposite orders, over all pairs.

    A pair that either side ties counts for neither (tau-a). Source: Kendall, "A New Measure of Rank Correlation", 1938.
    """
    size = one_GK.shape[1]
    first, second = np.triu_indices(size, 1)
    same = np.sign(one_GK[:, first] - one_GK[:, second]) * np.sign(other_GK[:, first] - other_GK[:, second])
    tau: np.ndarray = same.sum(axis=1) / len(first)
    return tau


def spearman_of(one_GK: np.ndarray, other_GK: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of two orders, (G,) in [-1, 1]; equal ones share the mean of their ranks.

    0 where either side ties all. Source: Spearman, "The Proof and Measurement of Association between Two Things", 1904.
    """
    one, other = (ranks_GK - ranks_GK.mean(axis=1, keepdims=True) for ranks_GK in (_ranks(one_GK), _ranks(other_GK)))
    size = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    rho: np.ndarray = np.divide((one * other).sum(axis=1), size, out=np.zeros(len(size)), where=size > 0)
    return rho


def _ranks(values_GK: np.ndarray) -> np.ndarray:
    """Rank of each value in its row from 0, equal ones sharing the mean of theirs."""
    order = values_GK.argsort(axis=1, kind="stable")
    ordered = np.take_along_axis(values_GK, order, axis=1)
    opens = np.diff(ordered, axis=1, prepend=-np.inf) != 0
    run = (opens.cumsum() - 1).reshape(opens.shape)  # equal neighbours of a row are one run
    places = np.broadcast_to(np.arange(values_GK.shape[1], dtype=np.float64), values_GK.shape)
    shared = np.bincount(run.ravel(), places.ravel()) / np.maximum(np.bincount(run.ravel()), 1)
    ranks_GK = np.empty(values_GK.shape)
    np.put_along_axis(ranks_GK, order, shared[run], axis=1)
    return ranks_GK


def order_agreement(one_GK: np.ndarray, other_GK: np.ndarray, how: Order) -> np.ndarray:
    """Agreement of two orders of the same items, (G,) in [0, 1].

    kendall and spearman: (correlation + 1)/2, so that unrelated orders have 0.5. top: 1 if best and worst are the same items,
    else 0; of equal ones the first item counts. Source: Wang et al., "CREAM: Consistency Regularized
    Self-Rewarding Language Models", 2025, arXiv:2410.12735, section 4.
    """
    if how == "kendall":
        return np.asarray((kendall(one_GK, other_GK) + 1) / 2)
    if how == "spearman":
        return np.asarray((spearman_of(one_GK, other_GK) + 1) / 2)
    best = one_GK.argmax(axis=1) == other_GK.argmax(axis=1)
    worst = one_GK.argmin(axis=1) == other_GK.argmin(axis=1)
    return np.asarray((best & worst).astype(np.float64))


def agreement_of_orders(groups_N: np.ndarray, scores_NR: np.ndarray, how: Order) -> np.ndarray:
    """For each row how far the raters order the rows of its group alike, (N,) in [0, 1]: the mean over every two raters.

    NaN in groups of which fewer than two rows were scored by all, and in rows that were not.
    """
    found = np.full(len(scores_NR), np.nan)
    scored = np.flatnonzero(~np.isnan(scores_NR).any(axis=1))
    for rows_GK in same_sized(groups_N[scored]):
        if rows_GK.shape[1] < 2:
            continue
        rows_GK = scored[rows_GK]
        every_two = combinations(range(scores_NR.shape[1]), 2)
        orders = [order_agreement(scores_NR[rows_GK, one], scores_NR[rows_GK, other], how) for one, other in every_two]
        found[rows_GK] = np.mean(orders, axis=0)[:, None]
    return found


def spread(scores_NR: np.ndarray) -> np.ndarray:
    """Largest score minus smallest, (N,); NaN where fewer than two raters gave one."""
    told = ~np.isnan(scores_NR)
    high = np.where(told, scores_NR, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(told, scores_NR, np.inf).min(axis=1, initial=np.inf)
    return np.where(told.sum(axis=1) >= 2, high - low, np.nan)


def closest_mean(scores_RN: np.ndarray, k: int) -> np.ndarray:
    """Mean of the k scores that lie closest together, (N,); of all where there are fewer, NaN where there are none.

    Of several such, the lowest. Source of the rule: the annotations of HelpSteer2 (see `combining.HELPSTEER2`).
    """
    ordered = np.sort(scores_RN.astype(np.float64), axis=0)  # NaN goes last
    count = (~np.isnan(ordered)).sum(axis=0)
    k = min(k, len(ordered))
    starts = len(ordered) - k + 1
    widths = np.stack([ordered[start + k - 1] - ordered[start] for start in range(starts)])
    start = np.where(np.isnan(widths), np.inf, widths).argmin(axis=0)
    window = ordered[start[None, :] + np.arange(k)[:, None], np.arange(ordered.shape[1])]
    sizes = np.minimum(count, k)
    total = np.where(np.isnan(window), 0.0, window).sum(axis=0)
    mean: np.ndarray = np.divide(total, sizes, out=np.full(len(count), np.nan), where=sizes > 0)
    return mean


def median(scores_RN: np.ndarray) -> np.ndarray:
    """The middle score, (N,), or the mean of the two in the middle; NaN where there are none."""
    ordered = np.sort(scores_RN, axis=0)  # NaN goes last
    count = (~np.isnan(scores_RN)).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(ordered) - 1)
    columns = np.arange(ordered.shape[1])
    middle: np.ndarray = (ordered[low, columns] + ordered[high, columns]) / 2
    return middle


def divergence(p_NR: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of several raters' probabilities of a yes, (N,) in [0, 1], bits; NaN where one is missing.

    Source: Lin, "Divergence Measures Based on the Shannon Entropy", 1991.
    """
    return np.asarray(entropy(p_NR.mean(axis=1)) - entropy(p_NR).mean(axis=1))


def entropy(p: np.ndarray) -> np.ndarray:
    """Of a yes with probability p, in bits."""
    parts = [np.where(q > 0, q * np.log2(np.where(q > 0, q, 1.0)), 0.0) for q in (p, 1 - p)]
    return np.where(np.isnan(p), np.nan, -(parts[0] + parts[1]))
