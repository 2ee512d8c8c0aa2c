"""How probable it is that each label is right, and how reliable each annotator is, by expectation maximisation.

A label is right (z = 1) with its annotator's reliability eta; a head gives p, the probability that the label's side is the
better one. Expectation: w = p eta / (p eta + (1 - p) (1 - eta)). Maximisation: the head is fitted to w as soft labels, and
eta is the mean of w. Cross-fitted, p is always by a head that did not see the pair, without which a head that memorises
finds every label right.

Source: "LCPO / RE-PO: robust preference optimisation via EM", 2026; see also Dawid and Skene, 1979.
"""

from typing import NamedTuple

import numpy as np

from curate.maths import pair_heads, peer_review
from curate.maths.noise_frame import Comparisons, couple_folds, folds_of
from curate.maths.noise_rate import Noise, estimate, logistic
from curate.maths.peer_review import LEVEL, Settings, tune

ROUNDS = 20
FLOOR = 1e-3
PRIOR = 5.0
"""Labels' worth of the mean reliability that an annotator with few labels is given."""


class Labels(NamedTuple):
    """What the labels of N pairs are worth."""

    label_prob: np.ndarray
    """Probability that each label is right."""
    reliability: np.ndarray
    """Probability that a label of each annotator is right, (A,)."""
    spread: np.ndarray
    """Standard error of it, (A,)."""
    labels: np.ndarray
    """Labels of each annotator, (A,)."""
    margin: np.ndarray
    """Log odds that the chosen side is better, before the annotator is taken into account."""
    noise: Noise
    """Of all labels together, read off the margins."""
    strength: float
    head_D: np.ndarray


def label_em(
    given: Comparisons, annotators_N: np.ndarray, settings: Settings, cross_fit: bool = True, first: float | None = None
) -> Labels:
    """Probabilities and reliabilities. annotators_N: a number from 0 for each pair's annotator, equal for a single one.

    first: reliability before the first round; the one that held-out noisy labels tell if not given.
    """
    tuned = tune(given, settings)
    fold = _folds(given, settings) if cross_fit else np.zeros(len(annotators_N), dtype=np.int64)
    level = LEVEL if settings.related == "together" and int(given.sides_N2.max()) + 1 < 2 * len(given.sides_N2) else 0.0
    frame = pair_heads.frame_of(given.differences_ND, given.sides_N2, level)
    folds = int(fold.max()) + 1
    weights = (fold[:, None] != np.arange(folds)).astype(np.float32) if cross_fit else np.ones((len(fold), 1), dtype=np.float32)
    told = tuned.noise.rate if settings.noise is None else settings.noise
    start = 1 - told if first is None else first
    reliability = np.full(int(annotators_N.max()) + 1, np.clip(start, FLOOR, 1 - FLOOR))
    strength, heads, scale = np.full(folds, tuned.strength), None, 1.0
    right = reliability[annotators_N]
    margin = np.zeros(len(fold))
    for _ in range(ROUNDS):
        targets = np.repeat(right[:, None].astype(np.float32), folds, axis=1)
        heads = pair_heads.fit(frame, weights, strength, targets, start=heads)
        margin = pair_heads.margins(frame, heads)[np.arange(len(fold)), fold].astype(np.float64)
        scale = calibrated(margin, reliability[annotators_N])
        right = posterior(margin * scale, reliability[annotators_N])
        before, reliability = reliability, _reliability(right, annotators_N, settings)
        if np.abs(before - reliability).max() < FLOOR:
            break
    labels = np.bincount(annotators_N, minlength=len(reliability))
    spread = np.sqrt(reliability * (1 - reliability) / np.maximum(labels, 1))
    head = peer_review.final_head(given, 1 - right, tuned.strength)
    noise = estimate(margin, given.groups_N, settings.seed)
    return Labels(right, reliability, spread, labels, margin * scale, noise, tuned.strength, head)


def _folds(given: Comparisons, settings: Settings) -> np.ndarray:
    if settings.related == "together":
        return couple_folds(given.sides_N2, settings.folds, settings.seed)
    return folds_of(given.groups_N, settings.folds, settings.seed)


def posterior(margin: np.ndarray, reliability: np.ndarray) -> np.ndarray:
    """Probability that a label is right, given the log odds of its side and its annotator's reliability."""
    side = logistic(margin)
    right = side * reliability
    return np.asarray(right / np.maximum(right + (1 - side) * (1 - reliability), 1e-12))


def calibrated(margin: np.ndarray, reliability: np.ndarray) -> float:
    """The factor under which margins make the labels most likely: heads shrunk by their prior say too little."""
    factors = np.geomspace(0.5, 32, 25)
    return float(factors[int(np.argmax([label_likelihood(margin * factor, reliability) for factor in factors]))])


def label_likelihood(margin: np.ndarray, reliability: np.ndarray) -> float:
    """Mean log-likelihood of the labels, nats."""
    side = logistic(margin)
    return float(np.log(side * reliability + (1 - side) * (1 - reliability) + 1e-12).mean())


def _reliability(right: np.ndarray, annotators_N: np.ndarray, settings: Settings) -> np.ndarray:
    count = int(annotators_N.max()) + 1
    if settings.noise is not None and count == 1:
        return np.array([1 - settings.noise])
    mean = right.mean()
    sums, labels = np.bincount(annotators_N, right, count), np.bincount(annotators_N, minlength=count)
    few = PRIOR if count > 1 else 0.0
    return np.asarray(np.clip((sums + few * mean) / np.maximum(labels + few, 1), FLOOR, 1 - FLOOR))
