"""Reward heads learnt from comparisons: each pair is the difference of its two sides' features, and a head scores it.

A linear head is the Bradley-Terry model with a normal prior on its weights; many are fitted at once, one a column of
weights, which is what folds, strengths of the prior and two reviewers cost little more than one for. A small network
without biases is an odd function of the difference, so that exchanging the sides turns its sign, as it must.
"""

from typing import NamedTuple

import numpy as np

ROUNDING = 1e-9
STEPS = 60
TOLERANCE = 3e-3  # of the largest weight: margins are ranked, not read


class Frame(NamedTuple):
    """Pairs as N differences of D scaled features, turned so that the features are uncorrelated."""

    turned_ND: np.ndarray
    """float32."""
    axes_DD: np.ndarray
    """float32: turned = differences @ axes."""
    power_D: np.ndarray
    """Sum of squares of each turned feature, float64."""
    sides_N2: np.ndarray | None
    """Numbers of the chosen and the rejected response, where a response of its own level is fitted to each; or None."""
    level: float
    """Spread of those levels beside a feature's: 0 for none."""


def frame_of(differences_ND: np.ndarray, sides_N2: np.ndarray | None = None, level: float = 0.0) -> Frame:
    """The pairs ready for fitting; the differences are copied once."""
    gram = (differences_ND.T @ differences_ND).astype(np.float64)
    power, axes = np.linalg.eigh(gram)
    axes32 = axes.astype(np.float32)
    return Frame(differences_ND @ axes32, axes32, np.maximum(power, 0.0), sides_N2, level)


class Heads(NamedTuple):
    """K fitted heads."""

    turned_DK: np.ndarray
    """Weights of the turned features."""
    levels_RK: np.ndarray
    """Each response's own level; no rows where none is fitted."""


def margins(frame: Frame, heads: Heads) -> np.ndarray:
    """Log odds that each pair's label is right, (N, K) float32."""
    found: np.ndarray = frame.turned_ND @ heads.turned_DK.astype(np.float32)
    if len(heads.levels_RK) and frame.sides_N2 is not None:
        levels = (frame.level * heads.levels_RK).astype(np.float32)
        found += levels[frame.sides_N2[:, 0]] - levels[frame.sides_N2[:, 1]]
    return found


def weights_of(frame: Frame, heads: Heads) -> np.ndarray:
    """The heads' weights of the scaled features as they were given, (D, K); the responses' own levels are left out."""
    return np.asarray(frame.axes_DD.astype(np.float64) @ heads.turned_DK)


def fit(
    frame: Frame,
    weights_NK: np.ndarray,
    strength_K: np.ndarray,
    targets_NK: np.ndarray | None = None,
    start: Heads | None = None,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
) -> Heads:
    """Heads that minimise sum w [-t log s(m) - (1 - t) log s(-m)] + strength / 2 |head|^2, s the logistic function.

    weights_NK: in [0, 1]. targets_NK: probability that the label is right, 1 where not given. Gradient steps with
    momentum, preconditioned by the bound 1/4 on the curvature of log s (Boehning, "Multinomial logistic regression
    algorithm", 1992), restarted where momentum leads uphill.
    """
    total = weights_NK.shape[1]
    heads = start or Heads(np.zeros((frame.turned_ND.shape[1], total)), np.zeros((_responses(frame), total)))
    pull = weights_NK * np.float32(0.5) if targets_NK is None else weights_NK * (targets_NK - np.float32(0.5))
    blocks = 2.0 if len(heads.levels_RK) else 1.0  # the bound of each of two blocks alone is doubled for both together
    share = weights_NK.max(axis=0).astype(np.float64)
    step = 1.0 / (blocks * share * frame.power_D[:, None] / 4 + strength_K)
    level_step = _level_step(frame, heads, blocks * share, strength_K)
    ahead, momentum = heads, 1.0
    for _ in range(steps):
        slope, level_slope = _slope(frame, ahead, weights_NK, pull, strength_K)
        found = Heads(ahead.turned_DK + step * slope, ahead.levels_RK + level_step * level_slope)
        moved = Heads(found.turned_DK - heads.turned_DK, found.levels_RK - heads.levels_RK)
        if float((slope * moved.turned_DK).sum() + (level_slope * moved.levels_RK).sum()) < 0 and momentum > 1.0:
            ahead, momentum = heads, 1.0
            continue
        following = (1 + np.sqrt(1 + 4 * momentum * momentum)) / 2
        on = (momentum - 1) / following
        ahead = Heads(found.turned_DK + on * moved.turned_DK, found.levels_RK + on * moved.levels_RK)
        heads, momentum = found, following
        if _largest(moved) <= tolerance * max(_largest(found), ROUNDING):
            break
    return heads


def _responses(frame: Frame) -> int:
    return 0 if frame.sides_N2 is None or not frame.level else int(frame.sides_N2.max(initial=-1)) + 1


def _largest(heads: Heads) -> float:
    return float(max(np.abs(heads.turned_DK).max(initial=0.0), np.abs(heads.levels_RK).max(initial=0.0)))


def _level_step(frame: Frame, heads: Heads, share_K: np.ndarray, strength_K: np.ndarray) -> np.ndarray:
    if not len(heads.levels_RK) or frame.sides_N2 is None:
        return np.zeros((0, len(strength_K)))
    times = np.bincount(frame.sides_N2.ravel(), minlength=len(heads.levels_RK)).astype(np.float64)
    # a graph's Laplacian is at most twice its degrees
    return np.asarray(1.0 / (share_K * 2 * times[:, None] * frame.level**2 / 4 + strength_K))


def _slope(
    frame: Frame, heads: Heads, weights_NK: np.ndarray, pull_NK: np.ndarray, strength_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rest = margins(frame, heads)
    rest *= 0.5
    np.tanh(rest, out=rest)
    rest *= weights_NK
    rest *= -0.5
    rest += pull_NK  # w (t - s(m)) = w (t - 1/2) - w tanh(m/2) / 2
    slope = frame.turned_ND.T @ rest - strength_K * heads.turned_DK
    if not len(heads.levels_RK) or frame.sides_N2 is None:
        return slope, heads.levels_RK
    count = len(heads.levels_RK)
    sums = np.stack(
        [
            np.bincount(frame.sides_N2[:, 0], column, count) - np.bincount(frame.sides_N2[:, 1], column, count)
            for column in rest.T
        ],
        axis=1,
    )
    return slope, frame.level * sums - strength_K * heads.levels_RK


# -- a small network


class Network(NamedTuple):
    """v . tanh(U d): odd in the difference d, so that exchanging the sides turns the sign."""

    inner_DH: np.ndarray
    outer_H: np.ndarray


def network_margins(differences_ND: np.ndarray, network: Network) -> np.ndarray:
    """Log odds that each pair's label is right, (N,) float32."""
    return np.asarray(np.tanh(differences_ND @ network.inner_DH) @ network.outer_H)


def new_network(features: int, hidden: int, random: np.random.Generator) -> Network:
    """A network of small random weights."""
    inner = random.normal(0, 1 / np.sqrt(features), (features, hidden)).astype(np.float32)
    return Network(inner, random.normal(0, 1 / np.sqrt(hidden), hidden).astype(np.float32))


class Moments(NamedTuple):
    """What Adam remembers: first and second moments of both layers, and steps taken."""

    first: Network
    second: Network
    steps: int


def no_moments(network: Network) -> Moments:
    """The memory before the first step."""
    zero = Network(np.zeros_like(network.inner_DH), np.zeros_like(network.outer_H))
    return Moments(zero, zero, 0)


def train_epoch(
    differences_ND: np.ndarray,
    rows: np.ndarray,
    network: Network,
    moments: Moments,
    decay: float,
    rate: float = 5e-3,
    targets_N: np.ndarray | None = None,
) -> tuple[Network, Moments]:
    """One pass over `rows` in the order told, by Adam (Kingma and Ba, 2015, arXiv:1412.6980), weights decayed.

    Batches hold 16 to 256 pairs: a small set is given as many steps as there are batches to be had.
    """
    batch = int(np.clip(len(rows) // 32, 16, 256))
    for begin in range(0, len(rows), batch):
        at = rows[begin : begin + batch]
        given = differences_ND[at]
        hidden = np.tanh(given @ network.inner_DH)
        margin = hidden @ network.outer_H
        target = np.float32(1.0) if targets_N is None else targets_N[at]
        pull = (target - 0.5 - 0.5 * np.tanh(0.5 * margin)) / len(at)
        inner = given.T @ ((pull[:, None] * network.outer_H) * (1 - hidden * hidden)) - decay * network.inner_DH
        slope = Network(inner, hidden.T @ pull - decay * network.outer_H)
        network, moments = _adam(network, moments, slope, rate)
    return network, moments


def _adam(network: Network, moments: Moments, slope: Network, rate: float) -> tuple[Network, Moments]:
    steps = moments.steps + 1
    first = Network(*(np.float32(0.9) * m + np.float32(0.1) * g for m, g in zip(moments.first, slope, strict=True)))
    second = Network(*(np.float32(0.999) * v + np.float32(0.001) * g * g for v, g in zip(moments.second, slope, strict=True)))
    mend, mend_second = np.float32(1 / (1 - 0.9**steps)), np.float32(1 / (1 - 0.999**steps))
    moved = Network(
        *(
            w + np.float32(rate) * mend * m / (np.sqrt(mend_second * v) + np.float32(1e-8))
            for w, m, v in zip(network, first, second, strict=True)
        )
    )
    return moved, Moments(first, second, steps)
