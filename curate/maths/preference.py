"""Probabilities that one response is better than another, from scores or from votes.

Source of the win matrix: Wu et al., "Self-Play Preference Optimization for Language Model Alignment", 2024,
arXiv:2405.00675; of logit targets: Le et al., "iREPO: implicit Reward Pairwise Difference based Empirical Preference
Optimization", 2024, arXiv:2405.15230; of the model: Bradley and Terry, "Rank Analysis of Incomplete Block Designs", 1952;
of its fit: Hunter, "MM algorithms for generalized Bradley-Terry models", 2004.

Letters: G groups (prompts) of K items each.
"""

from collections.abc import Iterator

import numpy as np

MOST_ROUNDS = 1000
TOLERANCE = 1e-9  # largest relative change of a strength at which the fit has come to rest


def same_sized(groups_N: np.ndarray) -> Iterator[np.ndarray]:
    """Row numbers (G, K) of the groups of each size K, rows of a group in their order."""
    order = np.argsort(groups_N, kind="stable")
    _, starts, sizes = np.unique(groups_N[order], return_index=True, return_counts=True)
    for size in np.unique(sizes):
        yield order[starts[sizes == size][:, None] + np.arange(size)]


def beats(gap: np.ndarray) -> np.ndarray:
    """Probability that the first is better, from its score minus the second's: the logistic function, without overflow."""
    probability: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * gap))
    return probability


def win_matrix(scores_GK: np.ndarray) -> np.ndarray:
    """P(i better than j), (G, K, K), from scores in logits; 0.5 on the diagonal."""
    return beats(scores_GK[:, :, None] - scores_GK[:, None, :])


def mean_win(probability_GKK: np.ndarray, itself: bool) -> np.ndarray:
    """Each item's mean probability of being better than the others, (G, K); with itself (0.5) among them if so.

    A single item has no others: NaN, or 0.5 with itself.
    """
    size = probability_GKK.shape[-1]
    total: np.ndarray = probability_GKK.sum(axis=-1)
    if size == 1 and not itself:
        return np.full_like(total, np.nan)
    mean: np.ndarray = total / size if itself else (total - 0.5) / (size - 1)
    return mean


def win_probabilities(groups_N: np.ndarray, scores_N: np.ndarray, itself: bool) -> np.ndarray:
    """Mean win probability of each row within its group, (N,); NaN where the row has no score."""
    wins = np.full(len(scores_N), np.nan)
    scored = np.flatnonzero(~np.isnan(scores_N))
    for rows_GK in same_sized(groups_N[scored]):
        rows_GK = scored[rows_GK]
        wins[rows_GK] = mean_win(win_matrix(scores_N[rows_GK].astype(np.float64)), itself)
    return wins


def wins_of_pairs(
    first_N: np.ndarray, second_N: np.ndarray, probability_N: np.ndarray, itself: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability of both items of each comparison of being better than those they met, (N,) each; NaN if they met none.

    The win matrix where it is known by its entries. first_N, second_N: numbers of the items, from 0. probability_N: that the
    first is better; NaN for none. Several comparisons of the same two items are averaged first. itself: as in `mean_win`.
    """
    items = int(max(first_N.max(initial=-1), second_N.max(initial=-1))) + 1
    known = np.flatnonzero(~np.isnan(probability_N) & (first_N != second_N))
    low, high = np.minimum(first_N, second_N)[known], np.maximum(first_N, second_N)[known]
    of_low = np.where(first_N[known] == low, probability_N[known], 1 - probability_N[known])
    keys, which = np.unique(low.astype(np.int64) * items + high, return_inverse=True)
    mean = np.bincount(which, weights=of_low, minlength=len(keys)) / np.bincount(which, minlength=len(keys))
    one, other = keys // max(items, 1), keys % max(items, 1)
    total = np.bincount(one, weights=mean, minlength=items) + np.bincount(other, weights=1 - mean, minlength=items)
    met = np.bincount(one, minlength=items) + np.bincount(other, minlength=items)
    wins = np.divide(total + 0.5 * itself, met + itself, out=np.full(items, np.nan), where=met > 0)
    return wins[first_N], wins[second_N]


def smoothed_share(wins: np.ndarray, votes: np.ndarray, smoothing: float) -> np.ndarray:
    """Share of votes won, with `smoothing` votes given to either side first (1: Laplace); NaN without a vote."""
    share: np.ndarray = np.divide(
        wins + smoothing, votes + 2 * smoothing, out=np.full(len(votes), np.nan), where=np.asarray(votes) > 0
    )
    return share


def logit_target(probability: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """log p/(1 - p), with p held half a vote away from 0 and 1 as in iREPO; NaN where p is."""
    least = 0.5 / np.maximum(votes, 1)
    held = np.clip(probability, least, 1 - least)
    target: np.ndarray = np.log(held) - np.log1p(-held)
    return target


def bradley_terry(wins_KK: np.ndarray, smoothing: float) -> np.ndarray:
    """P(i better than j), (K, K), under the strengths that make the wins likeliest; 0.5 on the diagonal.

    wins_KK: wins of i over j, ties half a win to either. smoothing: wins added to either side of every comparison that
    took place; 0 lets a strength run to an end of its scale where an item won or lost everything. NaN between items that
    no chain of comparisons links.
    """
    met = (wins_KK + wins_KK.T) > 0
    np.fill_diagonal(met, False)
    wins = np.where(met, wins_KK + smoothing, 0.0)
    games, won = wins + wins.T, wins.sum(axis=1)
    strength = np.where(won > 0, 1.0, 0.0)
    for _ in range(MOST_ROUNDS):
        sums = strength[:, None] + strength[None, :]
        load = np.divide(games, sums, out=np.zeros_like(games), where=sums > 0).sum(axis=1)
        new = np.divide(won, load, out=strength.copy(), where=load > 0)
        new /= max(new.mean(), np.finfo(float).tiny)
        rested = np.abs(new - strength).max(initial=0.0) <= TOLERANCE * new.max(initial=0.0)
        strength = new
        if rested:
            break
    sums = strength[:, None] + strength[None, :]
    probability: np.ndarray = np.divide(strength[:, None], sums, out=np.full_like(sums, 0.5), where=sums > 0)
    probability[~linked(met)] = np.nan
    return probability


def linked(met_KK: np.ndarray) -> np.ndarray:
    """Whether a chain of comparisons leads from i to j, (K, K); every item is linked to itself."""
    reach: np.ndarray = met_KK | np.eye(len(met_KK), dtype=bool)
    for _ in range(max(1, len(reach).bit_length())):
        reach = (reach.astype(np.int64) @ reach.astype(np.int64)) > 0
    return reach
