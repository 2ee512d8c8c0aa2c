"""One score out of several attributes: published weights, directions, and scores that do not pay for length."""

from collections.abc import Mapping, Sequence

import numpy as np

HELPSTEER2: Mapping[str, Mapping[str, float]] = {
    "helpsteer2-llama3-70b": {
        "helpfulness": 0.65,
        "correctness": 0.8,
        "coherence": 0.45,
        "complexity": 0.55,
        "verbosity": -0.4,
    },
    "helpsteer2-nemotron4-340b": {
        "helpfulness": 0.3,
        "correctness": 0.74,
        "coherence": 0.46,
        "complexity": 0.47,
        "verbosity": -0.33,
    },
}
"""Weights of the attributes, by the reward model they were found for.

Source: Z. Wang et al., "HelpSteer2: Open-source dataset for training top-performing reward models", 2024, section 4.
"""
STEP = 0.01  # between penalties tried
LARGEST = 20.0  # penalty tried at most: the score is then little else than what it is held against, negated


def direction(components: Sequence[float]) -> np.ndarray:
    """The components scaled to unit length, (R,): what a user wants of each attribute.

    Source: H. Wang et al., "Arithmetic Control of LLMs for Diverse User Preferences: Directional Preference Alignment with
    Multi-Objective Rewards", ACL 2024, section 2: reward R = v . r with |v| = 1.
    """
    told = np.asarray(components, np.float64)
    length = np.sqrt((told * told).sum())
    if not length > 0 or not np.isfinite(length):
        raise ValueError("a direction has a length above 0")
    unit: np.ndarray = told / length
    return unit


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value from 0, equal ones sharing the mean of theirs, (N,) float64."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: np.ndarray = (np.cumsum(counts) - (counts + 1) / 2)[which]
    return shared


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation in [-1, 1]; 0 where either is constant or there are fewer than two."""
    first, second = ranks(one), ranks(other)
    first, second = first - first.mean(), second - second.mean() if len(second) else second
    size = np.sqrt((first * first).sum() * (second * second).sum())
    return float((first * second).sum() / size) if size > 0 else 0.0


def penalty(score: np.ndarray, against: np.ndarray, limit: float = 0.03) -> float:
    """The smallest penalty p, in steps of 0.01, with Spearman(score - p x against, against) <= limit; 0 if there is no need.

    score, against: (N,) without NaN, both in standard deviations. Source: H. Wang et al., "Interpretable Preferences via
    Multi-Objective Reward Modeling and Mixture-of-Experts", EMNLP 2024 Findings, section 3.2 (there each reward against the
    verbosity reward). Found by halving: the correlation does not rise with the penalty.
    """
    low, high = 0, round(LARGEST / STEP)
    if len(score) < 2 or spearman(score, against) <= limit:
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        if spearman(score - middle * STEP * against, against) <= limit:
            high = middle
        else:
            low = middle
    return high * STEP
