"""Make one score of several raters' scores: a mean, a sum or an extreme, with the weights that a recipe or a row tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate import tables
from curate.maths import combining
from curate.maths.agreement import closest_mean, median
from curate.maths.metas import field_values
from curate.score.combining import Preset


@dataclass(frozen=True)
class Rule:
    """How several raters' scores become one; the fields are those of `aggregate`."""

    named: tuple[str, ...]
    how: str
    weights: Mapping[str, float] | None
    preset: Preset | None
    gates: Mapping[str, Mapping[str, float]] | None
    direction: str | None
    closest: int
    enough: int
    """Raters that must be there."""

    def combined(self, values_RN: np.ndarray, told: Any) -> np.ndarray:
        """One number a row, (N,) float64; NaN where too few raters are there. told: the column that tells each row's weights."""
        missing_RN = np.isnan(values_RN)
        if self.gates:
            weights_RN = self._gate_weights(told)
            total, size = np.nansum(values_RN * weights_RN, axis=0), np.where(missing_RN, 0.0, np.abs(weights_RN)).sum(axis=0)
            score = np.asarray(total / np.where(size == 0, np.nan, size))
        elif self.direction is not None:
            score = np.asarray(np.where(missing_RN, 0.0, values_RN * self._directions(told, self.direction)).sum(axis=0))
        elif self.how in ("sum", "direction"):
            score = np.asarray(np.where(missing_RN, 0.0, values_RN).T @ self._weights())
        else:
            score = self._reduced(values_RN, missing_RN)
        score[(~missing_RN).sum(axis=0) < self.enough] = np.nan
        return score

    def _weights(self) -> np.ndarray:
        """The weight of each rater, (R,)."""
        if self.preset is not None:
            return np.array([combining.HELPSTEER2[self.preset][str(tables.split_rater(by)[1])] for by in self.named])
        assert self.weights is not None
        told = list(self.weights.values())
        return combining.direction(told) if self.how == "direction" else np.array(told)

    def _gate_weights(self, domains: Any) -> np.ndarray:
        """The weight of each rater in each row, (R, N); 0 where the row's domain has none."""
        assert self.gates is not None
        rest = self.gates.get("*", {})
        rows = [self.gates.get(domain, rest) if domain is not None else rest for domain in domains.to_pylist()]
        return np.array([[weights.get(by, 0.0) for weights in rows] for by in self.named]).reshape(len(self.named), len(rows))

    def _directions(self, metas: Any, field: str) -> np.ndarray:
        """Each row's unit vector, by what its `meta` says of the raters' aspects, (R, N); NaN where it says too little."""
        names = [aspect or rater for rater, aspect in map(tables.split_rater, self.named)]
        found = np.full((len(metas), len(names)), np.nan)
        for row, components in enumerate(field_values(metas, field)):
            if isinstance(components, dict) and set(names) <= components.keys():
                found[row] = combining.direction([components[name] for name in names])
        return found.T

    def _reduced(self, values_RN: np.ndarray, missing_RN: np.ndarray) -> np.ndarray:
        """One number a row from the raters present, (N,) float64; NaN where there are none."""
        if self.how in ("min", "max"):
            best: np.ndarray = (np.fmin if self.how == "min" else np.fmax).reduce(values_RN, axis=0)
            return best
        if self.how == "median":
            return median(values_RN)
        if self.how == "closest":
            return closest_mean(values_RN, self.closest)
        weights_R1 = np.array([1.0] * len(values_RN) if self.weights is None else list(self.weights.values()))[:, None]
        total: np.ndarray = (np.where(missing_RN, 0.0, values_RN) * weights_R1).sum(axis=0)
        size: np.ndarray = np.where(missing_RN, 0.0, np.abs(weights_R1)).sum(axis=0)
        size[size == 0] = np.nan
        total /= size
        return total
