"""Reward heads learnt from comparisons: each pair is the difference of its two sides' features, and a head scores it.

A linear head is the Bradley-Terry model with a normal prior on its weights; many are fitted at once, one a column of
weights, which is what folds, strengths of the prior and two reviewers cost little more than one for. A small network
without biases is an odd function of the difference, so that exchanging the sides turns its sign, as it must.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

ROUNDING = 1e-9
STEPS = 60
TOLERANCE = 3e-3  # of the largest weight: margins are ranked, not read
TURNED_PAIRS = 20_000
"""Up to so many pairs are kept turned; of more there is no second copy, and the heads are turned back instead."""
BLOCK = 2048
"""Pairs that are scaled at once."""


class Frame(NamedTuple):
    """Pairs as N differences of D features, to be scaled and turned so that the features are uncorrelated."""

    rows_ND: np.ndarray
    """float32: the turned features, or the differences as given."""
    turn_DD: np.ndarray
    """turned = differences @ turn, float64: the scales times the axes."""
    is_turned: bool
    """Whether the rows are turned already."""
    power_D: np.ndarray
    """Sum of squares of each turned feature, float64."""
    sides_N2: np.ndarray | None = None
    """Numbers of the chosen and the rejected response, where a response of its own level is fitted to each; or None."""
    level: float = 0.0
    """Standard deviation of those levels beforehand, log odds: 0 for none."""


def frame_of(differences_ND: np.ndarray, scales_D: np.ndarray, rows: np.ndarray | None = None) -> Frame:
    """The pairs ready for fitting, or only those of `rows`. Scaled, they exist in blocks alone."""
    total, width = differences_ND.shape if rows is None else (len(rows), differences_ND.shape[1])
    gram = np.zeros((width, width))
    for _, block in _scaled(differences_ND, scales_D, rows):
        gram += block.T @ block
    power, axes = np.linalg.eigh(gram)
    turn = scales_D[:, None] * axes
    power = np.maximum(power, 0.0)
    if total > TURNED_PAIRS:
        return Frame(
            differences_ND if rows is None or len(rows) == len(differences_ND) else differences_ND[rows], turn, False, power
        )
    turned, axes32 = np.empty((total, width), dtype=np.float32), axes.astype(np.float32)
    for begin, block in _scaled(differences_ND, scales_D, rows):
        np.matmul(block, axes32, out=turned[begin : begin + len(block)])
    return Frame(turned, turn, True, power)


def _scaled(differences_ND: np.ndarray, scales_D: np.ndarray, rows: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of scaled differences, each with its first place."""
    for begin in range(0, len(differences_ND) if rows is None else len(rows), BLOCK):
        part = differences_ND[begin : begin + BLOCK] if rows is None else differences_ND[rows[begin : begin + BLOCK]]
        yield begin, part * scales_D


class Heads(NamedTuple):
    """K fitted heads."""

    turned_DK: np.ndarray
    """Weights of the turned features."""
    levels_RK: np.ndarray
    """Each response's own level, log odds; no rows where none is fitted."""


def margins(frame: Frame, heads: Heads) -> np.ndarray:
    """Log odds that each pair's label is right, (N, K) float32."""
    weights = heads.turned_DK if frame.is_turned else weights_of(frame, heads)
    found: np.ndarray = frame.rows_ND @ weights.astype(np.float32)
    if len(heads.levels_RK) and frame.sides_N2 is not None:
        levels = heads.levels_RK.astype(np.float32)
        found += levels[frame.sides_N2[:, 0]] - levels[frame.sides_N2[:, 1]]
    return found


def weights_of(frame: Frame, heads: Heads) -> np.ndarray:
    """The heads' weights of the features as they were given, (D, K); the responses' own levels are left out."""
    return np.asarray(frame.turn_DD @ heads.turned_DK)


def fit(
    frame: Frame,
    weights_NK: np.ndarray,
    strength_K: np.ndarray,
    targets_NK: np.ndarray | None = None,
    start: Heads | None = None,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
) -> Heads:
    """Heads that minimise sum w [-t log s(m) - (1 - t) log s(-m)] + strength / 2 |weights|^2 + |levels|^2 / 2 level^2.

    s is the logistic function, level the spread of responses' own levels in the frame.

    weights_NK: in [0, 1]. targets_NK: probability that the label is right, 1 where not given. Gradient steps with
    momentum, preconditioned by the bound 1/4 on the curvature of log s (Boehning, "Multinomial logistic regression
    algorithm", 1992), restarted where momentum leads uphill.
    """
    total = weights_NK.shape[1]
    heads = start or Heads(np.zeros((frame.rows_ND.shape[1], total)), np.zeros((_responses(frame), total)))
    pull = weights_NK * np.float32(0.5) if targets_NK is None else weights_NK * (targets_NK - np.float32(0.5))
    blocks = 2.0 if len(heads.levels_RK) else 1.0  # the bound of each of two blocks alone is doubled for both together
    share = weights_NK.max(axis=0).astype(np.float64)
    step = 1.0 / (blocks * share * frame.power_D[:, None] / 4 + strength_K)
    level_step = _level_step(frame, heads, blocks * share)
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
        if all(_largest(by) <= tolerance * max(_largest(of), ROUNDING) for by, of in zip(moved, found, strict=True)):
            break
    return heads


def _responses(frame: Frame) -> int:
    return 0 if frame.sides_N2 is None or not frame.level else int(frame.sides_N2.max(initial=-1)) + 1


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


def _level_step(frame: Frame, heads: Heads, share_K: np.ndarray) -> np.ndarray:
    if not len(heads.levels_RK) or frame.sides_N2 is None:
        return np.zeros((0, len(share_K)))
    times = np.bincount(frame.sides_N2.ravel(), minlength=len(heads.levels_RK)).astype(np.float64)
    # a graph's Laplacian is at most twice its degrees
    return np.asarray(1.0 / (share_K * 2 * times[:, None] / 4 + frame.level**-2))


def _slope(
    frame: Frame, heads: Heads, weights_NK: np.ndarray, pull_NK: np.ndarray, strength_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rest = margins(frame, heads)
    rest *= 0.5
    np.tanh(rest, out=rest)
    rest *= weights_NK
    rest *= -0.5
    rest += pull_NK  # w (t - s(m)) = w (t - 1/2) - w tanh(m/2) / 2
    pulled = frame.rows_ND.T @ rest
    slope = (pulled if frame.is_turned else frame.turn_DD.T @ pulled) - strength_K * heads.turned_DK
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
    return slope, sums - heads.levels_RK / frame.level**2


# -- a small network


class Network(NamedTuple):
    """v . tanh(U d): odd in the scaled difference d, so that exchanging the sides turns the sign."""

    inner_DH: np.ndarray
    outer_H: np.ndarray


def network_margins(differences_ND: np.ndarray, scales_D: np.ndarray, network: Network) -> np.ndarray:
    """Log odds that each pair's label is right, (N,) float32."""
    hidden = differences_ND @ (scales_D[:, None] * network.inner_DH)
    return np.asarray(np.tanh(hidden, out=hidden) @ network.outer_H)


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
    scales_D: np.ndarray,
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
        given = differences_ND[at] * scales_D
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
