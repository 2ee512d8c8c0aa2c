"""How probable it is that each label is right, and how reliable each annotator is, by expectation maximisation.

A label is right (z = 1) with its annotator's reliability eta; a head gives p, the probability that the label's side is the
better one. Expectation: w = p eta / (p eta + (1 - p) (1 - eta)). Maximisation: the head is fitted to w as soft labels, and
eta is the one that makes the annotator's labels likeliest, which is where the mean of w stays at eta.

Cross-fitted, p is always by a head that saw no pair of the prompt: in-sample, a head that memorises finds every label right.
Labels of the same responses are weighed afterwards and once, by heads fitted to those w: further rounds would carry each
label round through the soft labels of its neighbours and back to itself. Heads shrunk by their prior say too little, so that
p = s(a m), the factor a being the likeliest together with eta; eta alone, in turn with a, hardly leaves where it started.

Of several annotators each label is judged, and its likelihood counted, by the eta that the annotator's other labels tell. With
the label's own part in it, a grows with all that so many eta explain in hindsight, and the posteriors become far too sure.

Source: "LCPO / RE-PO: robust preference optimisation via EM", 2026; see also Dawid and Skene, 1979.
"""

from typing import NamedTuple

import numpy as np

from curate.maths import pair_heads
from curate.maths.noise_frame import Comparisons, couple_folds, folds_of
from curate.maths.noise_rate import Noise, estimate, logistic
from curate.maths.pair_heads import Frame
from curate.maths.peer_review import LEVELS, Prepared, Settings, prepare

ROUNDS = 20
FLOOR = 1e-3
PRIORS = (2.0, 5.0, 15.0, 50.0, 150.0, 1000.0, 1e6)
"""Labels' worth of the mean reliability that each annotator is given; with the last ones all are alike."""
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
    """Of each annotator, (A,)."""
    spread: np.ndarray
    """Standard error of it, (A,)."""
    others: np.ndarray
    """Reliability of each label's annotator by the other labels, (N,)."""
    right: np.ndarray


class Reliabilities(NamedTuple):
    """How reliable A annotators of N labels are."""

    value: np.ndarray
    """(A,)."""
    spread: np.ndarray
    """Standard error, (A,)."""
    others: np.ndarray
    """Of each label's annotator, were that label not there, (N,); of a single annotator with all labels."""


def label_em(
    given: Comparisons,
    annotators_N: np.ndarray,
    settings: Settings,
    cross_fit: bool = True,
    first: float | None = None,
    prepared: Prepared | None = None,
) -> Labels:
    """Probabilities and reliabilities. annotators_N: a number from 0 for each pair's annotator, equal for a single one.

    first: reliability before the first round; the one that held-out noisy labels tell if not given. prepared: of the same
    pairs, where it is there already.
    """
    frame, tuned = prepared or prepare(given, settings)
    start = 1 - (tuned.noise.rate if settings.noise is None else settings.noise) if first is None else first
    told = _rounds(given, frame, annotators_N, settings, tuned.strength, cross_fit, np.clip(start, FLOOR, 1 - FLOOR))
    noise = estimate(told.margin, given.groups_N, settings.seed)
    if cross_fit and settings.related == "together" and int(given.sides_N2.max()) + 1 < 2 * len(given.sides_N2):
        related = _with_related(given, frame, annotators_N, settings, tuned.strength, told)
        anew = estimate(related.margin, given.groups_N, settings.seed)
        told, noise = (related, anew) if anew.likelihood > noise.likelihood else (told, noise)
    labels = np.bincount(annotators_N, minlength=len(told.reliability))
    head = _head(frame, told.right, tuned.strength)
    return Labels(told.right, told.reliability, told.spread, labels, told.scaled, noise, tuned.strength, head)


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
    known = None if settings.noise is None else 1 - settings.noise
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
    strengths = np.array([strength, strength / 10])
    outside = np.repeat((fold[:, None] != np.arange(settings.folds)).astype(np.float32), len(strengths), axis=1)
    targets = np.repeat(before.right[:, None].astype(np.float32), outside.shape[1], axis=1)
    own = np.arange(len(fold))[:, None], fold[:, None] * len(strengths) + np.arange(len(strengths))
    found: list[np.ndarray] = []
    for level in LEVELS:
        levelled = frame._replace(sides_N2=given.sides_N2, level=level)
        heads = pair_heads.fit(levelled, outside, np.tile(strengths, settings.folds), targets)
        found.extend(pair_heads.margins(levelled, heads)[own].T)
    likely = [estimate(margin, given.groups_N, resamples=0).likelihood for margin in found]
    margin = found[int(np.argmax(likely))].astype(np.float64)
    factor, _ = likeliest(margin, before.others)
    return before._replace(margin=margin, scaled=margin * factor, right=posterior(margin * factor, before.others))


def _expected(margin: np.ndarray, annotators_N: np.ndarray, known: float | None) -> Told:
    factor, common = likeliest(margin, known)
    found = Reliabilities(np.array([common]), np.zeros(1), np.full(len(margin), common))
    if int(annotators_N.max()) > 0:
        factor, found = of_annotators(margin, annotators_N, factor)
    elif known is None:
        found = reliabilities(logistic(margin * factor), annotators_N, common, 0.0)
    return Told(margin, margin * factor, *found, posterior(margin * factor, found.others))


def posterior(margin: np.ndarray, reliability: np.ndarray) -> np.ndarray:
    """Probability that a label is right, given the log odds of its side and its annotator's reliability."""
    side = logistic(margin)
    right = side * reliability
    return np.asarray(right / np.maximum(right + (1 - side) * (1 - reliability), 1e-12))


def likeliest(margin: np.ndarray, known: float | np.ndarray | None = None) -> tuple[float, float]:
    """The factor of the margins and the mean reliability under which the labels are most likely.

    known: reliability of all labels or of each; then the factor alone is sought.
    """
    found = []
    for factor in FACTORS:
        side = logistic(margin * factor)
        reliability = common_reliability(side) if known is None else known
        found.append((_likelihood(side, reliability, factor), float(factor), float(np.mean(reliability))))
    return max(found)[1:]


def of_annotators(margin: np.ndarray, annotators_N: np.ndarray, first: float) -> tuple[float, Reliabilities]:
    """The factor and the reliabilities under which each label is most likely given the others of its annotator.

    first: a factor by which to see how much annotators differ. Each is drawn to the mean of all by as many labels' worth as
    makes the labels likeliest: one of few labels is taken to be like the others, and where annotators do not differ all are.
    """

    def told(factor: float, prior: float) -> tuple[float, float, float]:
        side = logistic(margin * factor)
        others = reliabilities(side, annotators_N, common_reliability(side), prior).others
        return _likelihood(side, others, factor), factor, prior

    _, _, prior = max(told(first, prior) for prior in PRIORS)
    _, factor, _ = max(told(float(factor), prior) for factor in FACTORS)
    _, _, prior = max(told(factor, prior) for prior in PRIORS)
    side = logistic(margin * factor)
    return factor, reliabilities(side, annotators_N, common_reliability(side), prior)


def _likelihood(side: np.ndarray, reliability: float | np.ndarray, factor: float) -> float:
    """Of the labels, nats, with what is held of the factor beforehand."""
    labels = float(np.log(side * reliability + (1 - side) * (1 - reliability) + 1e-12).sum())
    return labels - float(np.log(factor) / FACTOR_SPREAD) ** 2 / 2


def common_reliability(side: np.ndarray) -> float:
    """The likeliest reliability if it is one for all labels. side: probability that the label's side is the better one."""
    return float(_newton(side, np.zeros(len(side), dtype=np.int64), np.array([0.75]), 0.0)[0][0])


def reliabilities(side: np.ndarray, annotators_N: np.ndarray, common: float, prior: float) -> Reliabilities:
    """The likeliest reliability of each annotator, (A,), by Newton's steps: the likelihood is concave in it.

    Each is drawn to `common` by `prior` labels' worth.
    """
    value, curve = _newton(side, annotators_N, np.full(int(annotators_N.max()) + 1, common), prior)
    others = _without_own(side, annotators_N, value, curve) if len(value) > 1 else np.full(len(side), value[0])
    return Reliabilities(value, 1 / np.sqrt(np.maximum(curve, 4.0)), others)


def _without_own(side: np.ndarray, annotators_N: np.ndarray, value: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """The reliability that is found without each label, (N,), by one step of Newton from what is found with it."""
    lean, own = 2 * side - 1, value[annotators_N]
    pull = lean / (1 - side + lean * own + 1e-12)
    left = np.maximum(curve[annotators_N] - pull * pull, 1e-12)
    return np.asarray(np.clip(own - pull / left, FLOOR, 1 - FLOOR))


def _newton(side: np.ndarray, annotators_N: np.ndarray, start: np.ndarray, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """The reliabilities, and how sharply the likelihood falls off beside them (its curvature), each (A,).

    prior: labels' worth of certain knowledge, in the proportions of `start`.
    """
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
    return told, curve
