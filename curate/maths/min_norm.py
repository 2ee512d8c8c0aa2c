"""Weights of several preference sets under which training on all of them helps each: MORE.

Source: Zeng et al., "On Diversified Preferences of Large Language Model Alignment" (MORE), 2023, arXiv:2312.07401, and its
released code: at every step one batch of each set, the gradient of each set's loss by the reward head alone, L2-normalised; the
weights are those of the shortest convex combination of the gradients (Sener and Koltun 2018, arXiv:1810.04650, algorithm 2),
averaged over the steps with momentum.
"""

from typing import NamedTuple

import numpy as np

from curate.maths.noise_rate import calibration_error, logistic

RATE = 2.0  # of learning; rows have length 1 on average, so that the loss bends by a quarter at most
SHRINK = 1e-3  # pull of the head towards zero
INNER = 50  # steps of Frank-Wolfe towards the shortest combination


class Balanced(NamedTuple):
    """What training on several sets at once came to."""

    shares_K: np.ndarray
    """Weight of each set's mean loss, the mean over all steps; they sum to 1."""
    head_D: np.ndarray
    """Reward head on rows as they were given."""


def shortest(gradients_KD: np.ndarray, start_K: np.ndarray | None = None, steps: int = INNER) -> np.ndarray:
    """lambda >= 0 that sums to 1 and makes |sum of lambda_k g_k| least, (K,), by Frank-Wolfe."""
    products = gradients_KD @ gradients_KD.T
    share = np.full(len(products), 1 / len(products)) if start_K is None else start_K.copy()
    for _ in range(steps):
        towards = products @ share
        corner = int(np.argmin(towards))
        gain = share @ towards - towards[corner]
        length = share @ towards - 2 * towards[corner] + products[corner, corner]
        if gain <= 1e-12 * max(1.0, float(products[corner, corner])) or length <= 0:
            break
        step = min(gain / length, 1.0)
        share *= 1 - step
        share[corner] += step
    return share


def balance(
    differences_ND: np.ndarray,
    set_N: np.ndarray,
    steps: int = 600,
    batch: int = 512,
    momentum: float = 0.99,
    even: bool = False,
    seed: int = 0,
) -> Balanced:
    """Train a reward head on all sets, weighing them anew at every step; even: each pair counts the same, the plain way.

    differences: chosen minus rejected, finite. set: number of each pair's set, 0 to K - 1, each at least once.
    """
    random = np.random.default_rng(seed)
    size = float(np.sqrt((differences_ND.astype(np.float64) ** 2).sum(axis=1).mean())) or 1.0
    members = [np.flatnonzero(set_N == number) for number in range(int(set_N.max()) + 1)]
    own = np.array([len(rows) for rows in members]) / len(set_N)
    share = own if even else np.full(len(members), 1 / len(members))
    found, total, head = share.copy(), np.zeros(len(members)), np.zeros(differences_ND.shape[1])
    for _ in range(steps):
        drawn = [rows if len(rows) <= batch else rows[random.integers(len(rows), size=batch)] for rows in members]
        gradients = np.stack([_gradient(differences_ND[rows] / size, head) for rows in drawn])
        if not even:
            lengths = np.linalg.norm(gradients, axis=1, keepdims=True)
            found = shortest(gradients / np.maximum(lengths, 1e-12), found)
            share = momentum * share + (1 - momentum) * found
        head -= RATE * (share @ gradients + SHRINK * head)
        total += share
    return Balanced(total / steps, head / size)


def _gradient(rows_ND: np.ndarray, head_D: np.ndarray) -> np.ndarray:
    """Of the mean Bradley-Terry loss -log s(margin) by the head, (D,)."""
    return np.asarray(-(logistic(-(rows_ND @ head_D)) @ rows_ND) / len(rows_ND))


def pair_weights(shares_K: np.ndarray, set_N: np.ndarray) -> np.ndarray:
    """Weight of each pair, (N,), 1 on average: its set's share, dealt out to the set's pairs evenly."""
    counts = np.bincount(set_N, minlength=len(shares_K))
    return np.asarray((shares_K * len(set_N) / np.maximum(counts, 1))[set_N])


def preference_ece(margins_N: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of s(margin) as the probability that chosen is better, in [0, 1]; NaN of none.

    As published, every pair counts in both orders, chosen over rejected (which holds) and rejected over chosen (which does
    not); equal bins of [0, 1], theirs 5, 10 and 20; the sum over bins of |sum of probabilities - sum of outcomes| / all.
    """
    told = margins_N[~np.isnan(margins_N)].astype(np.float64)
    if not len(told):
        return float("nan")
    both = np.concatenate([logistic(told), logistic(-told)])
    return calibration_error(both, np.repeat([1.0, 0.0], len(told)), bins)
