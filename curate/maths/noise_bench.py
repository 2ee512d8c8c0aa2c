"""How well each way of finding wrong labels does on somebody's own pairs: plant flips, look for them, count.

Labels as they came count as right, so that every number is relative to them: errors already there are the floor.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from curate.maths import noise_baselines, noise_rate, peer_review
from curate.maths.noise_choice import half_width
from curate.maths.noise_frame import Comparisons
from curate.maths.peer_review import Settings
from curate.maths.planted import KINDS, Kind, chances

RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Volumes, as shares of the pairs, at which purity is told."""


class Planted:
    """Pairs with known flips in those that are not held out, and what methods make of them."""

    def __init__(self, given: Comparisons, wrong: np.ndarray, held: np.ndarray, settings: Settings) -> None:
        """wrong: (N,) flips planted in the pairs that are not held; held: (N,) whole groups."""
        rows = np.flatnonzero(~held)
        self.planted, self.settings = wrong[rows], settings
        self.held_ND = given.differences_ND[held]
        signs = np.where(self.planted, -1, 1).astype(np.float32)
        sides = given.sides_N2[rows]
        self.training = Comparisons(
            given.differences_ND[rows] * signs[:, None],
            given.groups_N[rows],
            np.where(self.planted[:, None], sides[:, ::-1], sides),
            given.scales_D,
        )
        self.shared = noise_baselines.Shared(self.training, settings)

    def judged(self, method: str) -> dict[str, Any]:
        """How one method does. Its CPU seconds are those it takes alone, what it shares with others included."""
        seconds, started = self.shared.work_out(method), time.process_time()
        found = noise_baselines.verdict(method, self.training, self.settings, self.planted, self.shared)
        seconds += time.process_time() - started
        return {
            "method": method,
            "planted": float(self.planted.mean()),
            "accuracy": peer_review.held_out_accuracy(found.head_D, self.held_ND),
            "auc": noise_rate.area_under_curve(found.suspicion, self.planted),
            **_found("drop", found.dropped, self.planted),
            **_found("flip", found.flip_prob > 0.5, self.planted),
            "flagged": float(found.dropped.mean()),
            "purity": purity(found.suspicion, self.planted),
            "noise": found.noise,
            "noise_low": found.low,
            "noise_high": found.high,
            "ece": noise_rate.calibration_error(found.flip_prob, self.planted),
            "cpu_seconds": seconds,
        }


def _found(what: str, told: np.ndarray, planted: np.ndarray) -> dict[str, float]:
    hits = float((told & planted).sum())
    return {
        f"{what}_precision": hits / told.sum() if told.any() else float("nan"),
        f"{what}_recall": hits / planted.sum() if planted.any() else float("nan"),
    }


def purity(suspicion: np.ndarray, planted: np.ndarray) -> list[float]:
    """Share of right labels among the least suspicious pairs, at each of SHARES."""
    right = ~planted[np.argsort(suspicion, kind="stable")]
    return [float(right[: max(round(share * len(right)), 1)].mean()) for share in SHARES]


def plant(given: Comparisons, held: np.ndarray, kind: Kind, rate: float, measure: np.ndarray | None, seed: int) -> np.ndarray:
    """Which labels are flipped, (N,) bool; none of the held-out ones."""
    random = np.random.default_rng(seed)
    total = len(held)
    annotators = random.integers(0, 10, total) if kind == "annotator" else None
    drawn: np.ndarray = (random.random(total) < chances(kind, rate, total, measure, annotators)) & ~held
    return drawn


def held_out(groups_N: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Whole groups of about that share of pairs, (N,) bool."""
    _, which, counts = np.unique(groups_N, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(counts))
    ends = np.cumsum(counts[order]) / len(groups_N)
    taken = min(max(int(np.searchsorted(ends, share)) + 1, 1), len(counts) - 2)
    drawn = np.zeros(len(counts), dtype=bool)
    drawn[order[:taken]] = True
    return np.asarray(drawn[which])


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over seeds of each measure by kind, rate and method, with half of its 95 % interval; NaN is left out.

    The interval is by Student's t: wide for few seeds, None of a single one.
    """
    keys = sorted(
        {(run["kind"], run["rate"], run["method"]) for run in runs}, key=lambda k: (KINDS.index(k[0]), k[1], _place(k[2]))
    )
    rows = []
    for kind, rate, method in keys:
        mine = [run for run in runs if (run["kind"], run["rate"], run["method"]) == (kind, rate, method)]
        row: dict[str, Any] = {"kind": kind, "rate": rate, "method": method, "runs": len(mine)}
        for name in mine[0]:
            if name in ("kind", "rate", "method", "seed"):
                continue
            values = np.array([run[name] for run in mine], dtype=np.float64)
            row[name] = values.mean(axis=0).tolist() if values.ndim > 1 else _mean(values)
            if values.ndim == 1:
                half = half_width(values)
                row[f"{name}_half"] = half if np.isfinite(half) else None
        rows.append(row)
    return rows


def _place(method: str) -> int:
    return noise_baselines.METHODS.index(method)


def _mean(values: np.ndarray) -> float | None:
    told = values[np.isfinite(values)]
    return float(told.mean()) if len(told) else None


def with_seed(settings: Settings, seed: int) -> Settings:
    """The settings under another seed."""
    return replace(settings, seed=seed)
