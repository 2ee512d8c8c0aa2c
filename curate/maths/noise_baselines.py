"""Plain ways to find wrong labels, in the same frame as `peer_review`: what any better way must be held against.

All use the same head, and each is tuned as `peer_review` is, by the likelihood of held-out noisy labels, for what it does: heads
that are trained on all labels have the strength that suits this, those trained on what was kept the one chosen for trimming.
Methods that judge out of fold, too, may learn from other pairs of the same prompt, where that makes the labels likelier.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from curate.maths import pair_heads, peer_review
from curate.maths.label_em import label_em
from curate.maths.noise_frame import Comparisons, couple_folds, folds_of
from curate.maths.noise_rate import estimate, flip_probability, logistic
from curate.maths.peer_review import Settings, Tuned, held_out, tune

METHODS = (
    "untreated",
    "small_loss",
    "margin",
    "confident_learning",
    "two_averaged",
    "self_review",
    "trimmed",
    "label_em",
    "peer_review",
    "peer_review_apart",
    "peer_review_mlp",
    "oracle",
)


class Verdict(NamedTuple):
    """What one method makes of N labels."""

    suspicion: np.ndarray
    """Larger for labels more likely wrong."""
    flip_prob: np.ndarray
    """Probability that the label is wrong."""
    dropped: np.ndarray
    noise: float
    low: float
    high: float
    head_D: np.ndarray
    """A head trained on what the method keeps."""


def verdict(
    method: str, given: Comparisons, settings: Settings, tuned: Tuned | None = None, wrong: np.ndarray | None = None
) -> Verdict:
    """The verdict of a method by name. wrong: which labels are wrong, for the oracle alone."""
    if method == "label_em":
        return _of_em(given, settings)
    if method.startswith("peer_review") or method == "self_review":
        return _of_review(given, _variant(method, settings))
    tuned = tuned or tune(given, settings)
    if method == "oracle":
        assert wrong is not None
        return _oracle(given, wrong)
    return _plain(method, given, settings, tuned)


def _variant(method: str, settings: Settings) -> Settings:
    changes = {
        "peer_review": {},
        "self_review": {"reviewer": "self"},
        "peer_review_apart": {"related": "apart"},
        "peer_review_mlp": {"learner": "mlp", "related": "apart"},
    }
    return replace(settings, **changes[method])  # type: ignore[arg-type]


def _of_em(given: Comparisons, settings: Settings) -> Verdict:
    found = label_em(given, np.zeros(len(given.groups_N), dtype=np.int64), settings)
    wrong = 1 - found.label_prob
    rate = float(1 - found.reliability[0])
    half = 1.96 * float(found.spread[0])
    return Verdict(wrong, wrong, wrong > 0.5, rate, max(rate - half, 0.0), min(rate + half, 1.0), found.head_D)


def _of_review(given: Comparisons, settings: Settings) -> Verdict:
    found = peer_review.review(given, settings)
    noise = found.noise
    return Verdict(found.flip_prob, found.flip_prob, found.flip_prob > 0.5, noise.rate, noise.low, noise.high, found.head_D)


def _oracle(given: Comparisons, wrong: np.ndarray) -> Verdict:
    """A head trained on the right labels, its strength chosen on them, too."""
    signs = np.where(wrong, -1, 1).astype(np.float32)[:, None]
    clean = given._replace(differences_ND=given.differences_ND * signs)
    head = _head(clean, np.ones(len(wrong), dtype=np.float32), tune(clean, Settings()).strength)
    rate, told = float(wrong.mean()), wrong.astype(np.float64)
    return Verdict(told, told, wrong, rate, rate, rate, head)


def _plain(method: str, given: Comparisons, settings: Settings, tuned: Tuned) -> Verdict:
    untrimmed = tune(given, replace(settings, noise=0.0)).strength
    rate = tuned.noise.rate if settings.noise is None else settings.noise
    margin = _margin(method, given, settings, tuned.strength if method == "trimmed" else untrimmed, rate)
    noise = estimate(margin, given.groups_N, settings.seed)
    rate = noise.rate if settings.noise is None else settings.noise
    flip = flip_probability(margin, noise._replace(rate=rate))
    dropped = confident(margin) if method == "confident_learning" else _lowest(margin, rate)
    if method == "margin":
        dropped = margin < 0
    if method == "untreated":
        dropped = np.zeros(len(margin), dtype=bool)
    head = _head(given, (~dropped).astype(np.float32), untrimmed if method == "untreated" else tuned.strength)
    return Verdict(-margin, flip, dropped, noise.rate, noise.low, noise.high, head)


def _margin(method: str, given: Comparisons, settings: Settings, strength: float, rate: float) -> np.ndarray:
    """Margins of the labels; in-sample for the methods that know no folds."""
    if method in ("confident_learning", "margin"):
        return _out_of_fold(given, settings, strength)
    frame = pair_heads.frame_of(given.differences_ND)
    total, told = len(given.groups_N), np.array([strength])
    one = np.ones((total, 1), dtype=np.float32)
    if method == "trimmed":
        return pair_heads.margins(frame, peer_review.trimmed(frame, one, told, rate))[:, 0]
    if method == "two_averaged":
        random = np.random.default_rng(settings.seed)
        bags = (random.random((total, 2)) < 0.5).astype(np.float32)
        return np.asarray(pair_heads.margins(frame, pair_heads.fit(frame, bags, np.repeat(told, 2))).mean(axis=1))
    return pair_heads.margins(frame, pair_heads.fit(frame, one, told))[:, 0]


def _out_of_fold(given: Comparisons, settings: Settings, strength: float) -> np.ndarray:
    """Margins by heads that saw no pair of the prompt, or only not the pair and its copies: those that fit the labels better."""
    frame = pair_heads.frame_of(given.differences_ND)
    folds = [folds_of(given.groups_N, settings.folds, settings.seed)]
    if settings.related == "together":
        folds.append(couple_folds(given.sides_N2, settings.folds, settings.seed))
    found = [held_out(frame, fold, np.array([strength]), 0.0)[:, 0] for fold in folds]
    return max(found, key=lambda margin: estimate(margin, given.groups_N, resamples=0).likelihood)


def _lowest(margin: np.ndarray, rate: float) -> np.ndarray:
    dropped = np.zeros(len(margin), dtype=bool)
    dropped[np.argsort(margin, kind="stable")[: int(rate * len(margin))]] = True
    return dropped


def _head(given: Comparisons, weights_N: np.ndarray, strength: float) -> np.ndarray:
    frame = pair_heads.frame_of(given.differences_ND)
    heads = pair_heads.fit(frame, weights_N[:, None], np.array([strength]), tolerance=1e-4)
    return np.asarray(pair_heads.weights_of(frame, heads)[:, 0])


def confident(margin: np.ndarray) -> np.ndarray:
    """Labels that confident learning drops (prune by noise rate), given out-of-fold margins.

    A comparison is two classes that mirror each other: which side is named first tells nothing, so both orders are given
    and the two thresholds are one, the mean probability of the given label. A pair counts as wrong where the other label's
    probability reaches it and is the larger; as many as that, calibrated by the share counted at all, are dropped, the
    least probable labels first. Source: Northcutt, Jiang and Chuang, "Confident Learning", 2021, arXiv:1911.00068.
    """
    right = logistic(margin)
    threshold = right.mean()
    wrong, told = (1 - right >= threshold) & (right < 0.5), (right >= threshold) & (right >= 0.5)
    share = wrong.sum() / max(wrong.sum() + told.sum(), 1)
    return _lowest(margin, float(share))
