"""Peer review by other models than heads on features: by margins that two policies imply, and by two models that are trained.

Source: Collaborative Reward Modeling, as in peer_review.py; with implied margins its DPO form, m = beta [log p(chosen) -
log p_ref(chosen)] - beta [log p(rejected) - log p_ref(rejected)], Rafailov et al. 2023, "Direct Preference Optimization".
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from curate.errors import DataError
from curate.maths.noise_frame import Comparisons, folds_of
from curate.maths.noise_rate import Noise, estimate, flip_probability
from curate.maths.peer_review import UNREADABLE, Review, Settings, Told, thresholds

NO_HEAD = np.zeros(0)
Said = Callable[[str], None]


class Reviewer(Protocol):
    """A model that learns from pairs and tells a margin of each."""

    def train(self, rows: np.ndarray) -> None:
        """One pass over these pairs, in this order."""

    def margins(self) -> np.ndarray:
        """Log odds that each pair's label is right, (N,), by what it has learnt so far."""

    def close(self) -> None:
        """Free what it holds."""


class Plan(NamedTuple):
    """What one fold's review needs."""

    training_N: np.ndarray
    rate: float
    """Share of pairs left out when warm."""
    settings: Settings
    random: np.random.Generator


def implied_review(given: Comparisons, settings: Settings) -> Review:
    """Two models that are not trained here judge each other's pairs. The two features are their margins, in any unit.

    Each margin is brought to log odds by the scale that makes the labels likeliest. A model's keep is the best 1 - noise by
    its own margin; loss_spread is the standard deviation of the loss between the two, and no fold is held out: the margins of
    a policy that was trained on these very labels agree with them and find little.
    """
    if given.differences_ND.shape[1] != 2:
        raise DataError(f"{given.differences_ND.shape[1]} margins; two models review each other")
    if not given.scales_D.all():
        raise DataError("one of the two margins is 0 for every pair: policy and reference are the same model, or `use` is wrong")
    logits = np.stack([_in_logits(column, given.groups_N) for column in given.differences_ND.T], axis=1)
    margin = logits.mean(axis=1)
    noise = estimate(margin, given.groups_N, settings.seed)
    rate = min(noise.rate, UNREADABLE) if settings.noise is None else settings.noise
    kept = logits >= thresholds(logits, np.ones_like(logits), rate)
    losses = np.logaddexp(0, -logits)
    told = Told(logits[:, 0], logits[:, 1], kept.mean(axis=1), losses.mean(axis=1), losses.std(axis=1))
    return _review(told, noise, settings)


def _in_logits(margin_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    noise = estimate(margin_N, groups_N, resamples=0)
    return np.asarray(margin_N * np.float32(noise.scale / noise.unit))


def trained_review(
    new: Callable[[int], Reviewer], groups_N: np.ndarray, settings: Settings, said: Said = lambda text: None
) -> Review:
    """Two models of different seeds choose each other's pairs; margins are by models that saw no pair of the group.

    new: makes an untrained model of a seed; two at a time are alive. Without a noise told, one model a fold is first trained
    on all its pairs for `warm` rounds, and the noise is read off the margins of the pairs it did not see.
    """
    fold_N = folds_of(groups_N, settings.folds, settings.seed)
    folds = int(fold_N.max()) + 1
    rate = settings.noise if settings.noise is not None else _first_noise(new, fold_N, groups_N, settings, said)
    margins_RN2 = np.zeros((settings.rounds, len(fold_N), 2), np.float32)
    kept_RN = np.zeros((settings.rounds, len(fold_N)), np.float32)
    for fold in range(folds):
        held = fold_N == fold
        plan = Plan(~held, rate, settings, np.random.default_rng([settings.seed, fold]))
        pair = [new(_seed(settings, fold, own)) for own in range(2)]
        try:
            margins: list[np.ndarray] = []
            keeps = [plan.training_N, plan.training_N]
            for number in range(settings.rounds):
                said(f"fold {fold + 1} of {folds}, round {number + 1} of {settings.rounds}")
                margins, keeps = _round(pair, plan, number, margins, keeps)
                margins_RN2[number, held] = np.stack(margins, axis=1)[held]
                kept_RN[number, held] = np.mean(keeps, axis=0)[held]
        finally:
            for reviewer in pair:
                reviewer.close()
    losses = np.logaddexp(0, -margins_RN2.mean(axis=2))
    kept = kept_RN[min(settings.warm, settings.rounds - 1) :].mean(axis=0)
    told = Told(margins_RN2[-1, :, 0], margins_RN2[-1, :, 1], kept, losses.mean(axis=0), losses.std(axis=0))
    return _review(told, estimate((told.margin_a + told.margin_b) / 2, groups_N, settings.seed), settings)


def _round(
    pair: list[Reviewer], plan: Plan, number: int, before: list[np.ndarray], keeps: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Both are trained on what the other keeps; then their margins of all pairs, and what each would keep next."""
    for own, reviewer in enumerate(pair):
        judge = own if plan.settings.reviewer == "self" else 1 - own
        rows = plan.random.permutation(np.flatnonzero(keeps[judge] & plan.training_N))
        if plan.settings.curriculum and before:
            quarters = np.quantile(before[judge], [0.25, 0.5, 0.75])
            rows = rows[np.argsort(-np.digitize(before[judge][rows], quarters), kind="stable")]
        reviewer.train(rows)
    margins = [reviewer.margins().astype(np.float32) for reviewer in pair]
    share = plan.rate * min(1.0, (number + 1) / plan.settings.warm)
    return margins, [m >= thresholds(m[:, None], plan.training_N[:, None], share)[0] for m in margins]


def _first_noise(
    new: Callable[[int], Reviewer], fold_N: np.ndarray, groups_N: np.ndarray, settings: Settings, said: Said
) -> float:
    margin = np.zeros(len(fold_N))
    for fold in range(int(fold_N.max()) + 1):
        said(f"reading the noise, fold {fold + 1}")
        held, random = fold_N == fold, np.random.default_rng([settings.seed, fold])
        reviewer = new(_seed(settings, fold, 2))
        try:
            for _ in range(settings.warm):
                reviewer.train(random.permutation(np.flatnonzero(~held)))
            margin[held] = reviewer.margins()[held]
        finally:
            reviewer.close()
    return min(estimate(margin, groups_N, resamples=0).rate, UNREADABLE)


def _seed(settings: Settings, fold: int, own: int) -> int:
    return int(np.random.default_rng([settings.seed, fold, own]).integers(2**31))


def _review(told: Told, noise: Noise, settings: Settings) -> Review:
    flip = flip_probability(
        (told.margin_a + told.margin_b) / 2, noise if settings.noise is None else noise._replace(rate=settings.noise)
    )
    return Review(*told, flip, told.keep_rate >= 0.5, noise, float("nan"), 0.0, NO_HEAD)
