"""Which filter to use, from how each did on flips planted in somebody's own pairs.

Filters are compared on the same plants: the difference of two is the mean over runs of what sets them apart in each. A
difference counts once its 95 % interval leaves zero out. Among those as good as the best, to half a point of accuracy, the one
is taken that best tells which labels are wrong.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

STEPS: dict[str, dict[str, dict[str, str]]] = {
    "peer_review": {"peer_review": {}},
    "peer_review_apart": {"peer_review": {"related": "apart"}},
    "peer_review_mlp": {"peer_review": {"learner": "mlp", "related": "apart"}},
    "self_review": {"peer_review": {"reviewer": "self"}},
    "label_em": {"label_em": {}},
}
"""By method that a recipe can name: its step and the parameters that are not the default."""
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t that 97.5 of 100 draws stay below, by degrees of freedom from 1 on."""


AS_GOOD = 0.005
"""Accuracy that nobody would change a filter for."""


class Gap(NamedTuple):
    """How far one method is above another, in the unit of the measure."""

    mean: float
    half: float
    """Half of the 95 % interval; NaN where each kind and rate has a single run."""

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out zero."""
        return abs(self.mean) > self.half


class Choice(NamedTuple):
    """The filter to use."""

    method: str
    accuracy: float
    """Mean held-out accuracy over all plants with flips."""
    auc: float
    over_untreated: Gap | None
    below_oracle: Gap | None
    at_zero: Gap | None
    """Over untreated where nothing was planted."""
    flagged: float | None
    """Share of pairs it drops where nothing was planted."""
    alike: tuple[str, ...]
    """Other filters of a recipe that are not surely worse than the best."""
    better: tuple[str, Gap] | None
    """A baseline that no step of a recipe is, and that surely does better."""


def half_width(values: np.ndarray) -> float:
    """Half of the 95 % interval of the mean of some draws, by Student's t; NaN of fewer than two."""
    told = values[np.isfinite(values)]
    if len(told) < 2:
        return float("nan")
    return float(student(len(told) - 1) * told.std(ddof=1) / np.sqrt(len(told)))


def student(freedom: int) -> float:
    """What Student's t stays below in 97.5 of 100 draws; beyond the table, within 0.003 of it."""
    return STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96 + 2.45 / freedom + 1.9 / freedom**2


def gap(runs: Sequence[Mapping[str, Any]], first: str, second: str, name: str = "accuracy") -> Gap | None:
    """How far `first` is above `second` on the plants that both were held against; None if there are none.

    The interval is that of the seeds drawn: differences vary about the mean of their own kind and rate.
    """
    plants: dict[tuple[str, float], dict[int, dict[str, float]]] = {}
    for run in runs:
        seeds = plants.setdefault((run["kind"], run["rate"]), {})
        seeds.setdefault(run["seed"], {})[run["method"]] = _number(run[name])
    apart = [[told[first] - told[second] for told in seeds.values() if {first, second} <= set(told)] for seeds in plants.values()]
    strata = [values for values in map(_finite, apart) if len(values)]
    if not strata:
        return None
    mean = float(np.mean([values.mean() for values in strata]))
    freedom = sum(len(values) - 1 for values in strata)
    if not freedom:
        return Gap(mean, float("nan"))
    variance = sum(float(((values - values.mean()) ** 2).sum()) for values in strata) / freedom
    return Gap(mean, student(freedom) * float(np.sqrt(variance * sum(1 / len(values) for values in strata))) / len(strata))


def _finite(values: Sequence[float]) -> np.ndarray:
    told = np.array(values, dtype=np.float64)
    return np.asarray(told[np.isfinite(told)])


def choose(runs: Sequence[Mapping[str, Any]]) -> Choice | None:
    """The filter to use; None where no filter of a recipe has a held-out accuracy on planted flips."""
    planted = [run for run in runs if run["rate"] > 0]
    clean = [run for run in runs if run["rate"] == 0]
    means = {method: mean for method in dict.fromkeys(run["method"] for run in planted) if (mean := _mean(planted, method))}
    usable = {method: means[method] for method in STEPS if method in means}
    if not usable:
        return None
    best = max(usable, key=lambda method: usable[method])
    tied = [method for method in usable if method == best or _level(gap(planted, best, method))]
    as_good = [method for method in tied if usable[method] >= usable[best] - AS_GOOD]
    taken = max(as_good, key=lambda method: (_mean(planted, method, "auc") or 0.0, usable[method]))
    rivals = [method for method in means if method not in STEPS and method not in ("oracle", "untreated")]
    above = {method: found for method in rivals if (found := gap(planted, method, taken)) and found.mean > 0 and found.sure}
    better = max(above, key=lambda method: above[method].mean, default=None)
    return Choice(
        taken,
        usable[taken],
        _mean(planted, taken, "auc") or float("nan"),
        gap(planted, taken, "untreated"),
        gap(planted, "oracle", taken),
        gap(clean, taken, "untreated"),
        _mean(clean, taken, "flagged"),
        tuple(method for method in tied if method != taken),
        None if better is None else (better, above[better]),
    )


def _level(found: Gap | None) -> bool:
    """Whether two are not surely apart. Single runs tell nothing about that: then the better one is taken."""
    return found is not None and not np.isnan(found.half) and not found.sure


def _mean(runs: Sequence[Mapping[str, Any]], method: str, name: str = "accuracy") -> float | None:
    values = np.array([_number(run[name]) for run in runs if run["method"] == method])
    told = values[np.isfinite(values)]
    return float(told.mean()) if len(told) else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
