"""How probable it is that each label is right, and how reliable each annotator is, by expectation maximisation.

A label is right (z = 1) with its annotator's reliability eta; a head gives p, the probability that the label's side is the
better one. Expectation: w = p eta / (p eta + (1 - p) (1 - eta)). Maximisation: the head is fitted to w as soft labels, and
eta is the one that makes the annotator's labels likeliest, which is where the mean of w stays at eta.

Cross-fitted, p is always by a head that saw no pair of the prompt: in-sample, a head that memorises finds every label right.
Labels of the same responses are weighed afterwards and once, by heads fitted to those w: further rounds would carry each
label round through the soft labels of its neighbours and back to itself. Heads shrunk by their prior say too little, so that
p = s(a m), the factor a being the likeliest together with eta; eta alone, in turn with a, hardly leaves where it started.

Source: "LCPO / RE-PO: robust preference optimisation via EM", 2026; see also Dawid and Skene, 1979.
"""

from typing import NamedTuple

import numpy as np

from curate.maths import pair_heads
from curate.maths.noise_frame import Comparisons, couple_folds, folds_of
from curate.maths.noise_rate import Noise, estimate, logistic
from curate.maths.pair_heads import Frame
from curate.maths.peer_review import LEVEL, Settings, tune

ROUNDS = 20
FLOOR = 1e-3
PRIOR = 5.0
"""Labels' worth of the mean reliability that an annotator with few labels is given."""
FACTORS = np.geomspace(0.25, 32, 29)
FACTOR_SPREAD = 1.0
"""Of the logarithm of the factor, beforehand: it is taken to be near 1 where labels do not tell it from noise."""
NEWTON = 12


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


class Told(NamedTuple):
    """What one stage tells."""

    margin: np.ndarray
    """Log odds as the heads give them, (N,)."""
    scaled: np.ndarray
    """The same, times the likeliest factor."""
    reliability: np.ndarray
    right: np.ndarray


def label_em(
    given: Comparisons, annotators_N: np.ndarray, settings: Settings, cross_fit: bool = True, first: float | None = None
) -> Labels:
    """Probabilities and reliabilities. annotators_N: a number from 0 for each pair's annotator, equal for a single one.

    first: reliability before the first round; the one that held-out noisy labels tell if not given.
    """
    tuned = tune(given, settings)
    start = 1 - (tuned.noise.rate if settings.noise is None else settings.noise) if first is None else first
    frame = pair_heads.frame_of(given.differences_ND)
    told = _rounds(given, frame, annotators_N, settings, tuned.strength, cross_fit, np.clip(start, FLOOR, 1 - FLOOR))
    noise = estimate(told.margin, given.groups_N, settings.seed)
    if cross_fit and settings.related == "together" and int(given.sides_N2.max()) + 1 < 2 * len(given.sides_N2):
        related = _with_related(given, frame, annotators_N, settings, tuned.strength, told)
        anew = estimate(related.margin, given.groups_N, settings.seed)
        told, noise = (related, anew) if anew.likelihood > noise.likelihood else (told, noise)
    labels = np.bincount(annotators_N, minlength=len(told.reliability))
    spread = np.sqrt(told.reliability * (1 - told.reliability) / np.maximum(labels, 1))
    head = _head(frame, told.right, tuned.strength)
    return Labels(told.right, told.reliability, spread, labels, told.scaled, noise, tuned.strength, head)


def _head(frame: Frame, right: np.ndarray, strength: float) -> np.ndarray:
    """A head trained on every pair with its label as probable as found, (D,)."""
    targets = right[:, None].astype(np.float32)
    heads = pair_heads.fit(frame, np.ones_like(targets), np.array([strength]), targets, tolerance=1e-4)
    return np.asarray(pair_heads.weights_of(frame, heads)[:, 0])


def _rounds(
    given: Comparisons, frame: Frame, annotators_N: np.ndarray, settings: Settings, strength: float, cross_fit: bool, start: float
) -> Told:
    """Expectation and maximisation in turn, until no reliability moves."""
    fold = folds_of(given.groups_N, settings.folds, settings.seed) if cross_fit else np.zeros(len(annotators_N), dtype=np.int64)
    folds = int(fold.max()) + 1
    weights = (fold[:, None] != np.arange(folds)).astype(np.float32) if cross_fit else np.ones((len(fold), 1), dtype=np.float32)
    reliability, heads = np.full(int(annotators_N.max()) + 1, start), None
    known = np.array([1 - settings.noise]) if settings.noise is not None and len(reliability) == 1 else None
    right = reliability[annotators_N]
    for _ in range(ROUNDS):
        targets = np.repeat(right[:, None].astype(np.float32), folds, axis=1)
        heads = pair_heads.fit(frame, weights, np.full(folds, strength), targets, start=heads)
        margin = pair_heads.margins(frame, heads)[np.arange(len(fold)), fold].astype(np.float64)
        before = reliability
        told = _expected(margin, annotators_N, known)
        right, reliability = told.right, told.reliability
        if np.abs(before - reliability).max() < FLOOR:
            break
    return told


def _with_related(
    given: Comparisons, frame: Frame, annotators_N: np.ndarray, settings: Settings, strength: float, before: Told
) -> Told:
    """Each label judged also by what is said of its two responses elsewhere, never by itself or its copies.

    Reliabilities stay: margins that rest on a handful of noisy labels are too coarse to read them off.
    """
    fold = couple_folds(given.sides_N2, settings.folds, settings.seed)
    frame = frame._replace(sides_N2=given.sides_N2, level=LEVEL)
    strengths = np.array([strength, strength / 10])
    outside = np.repeat((fold[:, None] != np.arange(settings.folds)).astype(np.float32), len(strengths), axis=1)
    targets = np.repeat(before.right[:, None].astype(np.float32), outside.shape[1], axis=1)
    heads = pair_heads.fit(frame, outside, np.tile(strengths, settings.folds), targets)
    found = pair_heads.margins(frame, heads)[
        np.arange(len(fold))[:, None], fold[:, None] * len(strengths) + np.arange(len(strengths))
    ]
    likely = [estimate(column, given.groups_N, resamples=0).likelihood for column in found.T]
    return _expected(found[:, int(np.argmax(likely))].astype(np.float64), annotators_N, before.reliability)


def _expected(margin: np.ndarray, annotators_N: np.ndarray, known: np.ndarray | None) -> Told:
    factor, reliability = likeliest(margin, annotators_N, known)
    right = posterior(margin * factor, reliability[annotators_N])
    return Told(margin, margin * factor, reliability, right)


def posterior(margin: np.ndarray, reliability: np.ndarray) -> np.ndarray:
    """Probability that a label is right, given the log odds of its side and its annotator's reliability."""
    side = logistic(margin)
    right = side * reliability
    return np.asarray(right / np.maximum(right + (1 - side) * (1 - reliability), 1e-12))


def likeliest(margin: np.ndarray, annotators_N: np.ndarray, known: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """The factor of the margins and the reliabilities, (A,), under which the labels are most likely; or the factor alone."""
    best: tuple[float, float, np.ndarray] | None = None
    for factor in FACTORS:
        side = logistic(margin * factor)
        reliability = reliabilities(side, annotators_N) if known is None else known
        told = reliability[annotators_N]
        likelihood = float(np.log(side * told + (1 - side) * (1 - told) + 1e-12).sum())
        likelihood -= (np.log(factor) / FACTOR_SPREAD) ** 2 / 2
        if best is None or likelihood > best[0]:
            best = likelihood, float(factor), reliability
    assert best is not None
    return best[1], best[2]


def reliabilities(side: np.ndarray, annotators_N: np.ndarray) -> np.ndarray:
    """The likeliest reliability of each annotator, (A,), by Newton's steps: the likelihood is concave in it.

    side: probability that the label's side is the better one. An annotator with few labels is drawn to what all have.
    """
    count = int(annotators_N.max()) + 1
    whole = _newton(side, np.zeros(len(side), dtype=np.int64), np.array([0.75]), 0.0)
    return whole if count == 1 else _newton(side, annotators_N, np.full(count, whole[0]), PRIOR)


def _newton(side: np.ndarray, annotators_N: np.ndarray, start: np.ndarray, prior: float) -> np.ndarray:
    """prior: labels' worth of certain knowledge, in the proportions of `start`."""
    told, count = start.copy(), len(start)
    lean = 2 * side - 1  # d p(label) / d reliability
    for _ in range(NEWTON):
        pull = lean / (1 - side + lean * told[annotators_N] + 1e-12)
        slope = np.bincount(annotators_N, pull, count) + prior * (start / told - (1 - start) / (1 - told))
        curve = np.bincount(annotators_N, pull * pull, count) + prior * (start / told**2 + (1 - start) / (1 - told) ** 2)
        moved = np.clip(told + slope / np.maximum(curve, 1e-12), FLOOR, 1 - FLOOR)
        done = np.abs(moved - told).max() < FLOOR / 10
        told = moved
        if done:
            break
    return told
