"""Plant wrong labels of a known kind, to see which of them a filter finds."""

from typing import Literal

import numpy as np

Kind = Literal["symmetric", "gap", "length", "annotator"]
KINDS: tuple[Kind, ...] = ("symmetric", "gap", "length", "annotator")
ANNOTATOR_SPREAD = 0.8
TRUTH = "planted"
"""Measure that tells which labels were planted wrong: for reports, never for a step."""


def refuse_truth(measure: str, named: str) -> None:
    """ValueError if a step would read the planted truth, whichever step wrote it. named: how the parameter names the measure."""
    if measure == TRUTH:
        raise ValueError(f"{named} is the planted truth: reports read it, no step does")


def chances(
    kind: Kind, rate: float, total: int, measure_N: np.ndarray | None = None, annotator_N: np.ndarray | None = None
) -> np.ndarray:
    """Each label's chance of being flipped, (N,), about `rate` on average and never above 0.9.

    symmetric: the same for all. gap: larger for a small |measure|, as people confuse what is close. length: only labels that
    prefer the smaller side (measure below zero) are flipped, as judges that like long answers do. annotator: annotators
    differ evenly between (1 - spread) and (1 + spread) times the rate.
    """
    if kind == "symmetric":
        return np.full(total, rate)
    if kind == "annotator":
        if annotator_N is None:
            raise ValueError("annotator flips need annotators")
        count = int(annotator_N.max(initial=0)) + 1
        places = np.linspace(1 - ANNOTATOR_SPREAD, 1 + ANNOTATOR_SPREAD, count) if count > 1 else np.ones(1)
        told: np.ndarray = places[annotator_N]
    else:
        if measure_N is None:
            raise ValueError(f"{kind} flips need a measure")
        size = np.abs(np.nan_to_num(measure_N))
        if kind == "gap":
            ranks = np.empty(len(size))
            ranks[np.argsort(-size, kind="stable")] = np.arange(len(size))
            told = ranks + 1
        else:
            told = (np.nan_to_num(measure_N) < 0).astype(float)
    return _with_mean(told, rate)


def _with_mean(told_N: np.ndarray, rate: float, most: float = 0.9) -> np.ndarray:
    """The numbers scaled to the mean asked for; what would pass `most` is spread over the others that are not zero."""
    if not told_N.any() or rate == 0:
        return np.zeros(len(told_N))
    low, high = 0.0, most / told_N[told_N > 0].min()
    for _ in range(60):
        factor = (low + high) / 2
        low, high = (factor, high) if np.minimum(told_N * factor, most).mean() < rate else (low, factor)
    return np.asarray(np.minimum(told_N * high, most))
