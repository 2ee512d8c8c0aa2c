"""Make one score of several raters' scores, on a common scale if wanted."""

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field, model_validator

from curate import tables
from curate.maths import calibration
from curate.operator import DatasetOperator
from curate.tables import Grain

ASPECT = "score"
SCORE_COLUMNS = ("scores", "chosen_scores", "rejected_scores")
MAX_RATERS = 60  # who is missing is told by one bit a rater
Weight = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, strict=True)]

FITTED = pa.schema(
    [
        ("rater", pa.string()),
        ("mean", pa.float64()),
        ("spread", pa.float64()),
        ("knots", pa.list_(pa.float64())),
        ("ranks", pa.list_(pa.float64())),
    ]
)


class Aggregate(DatasetOperator):
    """One score (aspect `score`) from several raters' scores; on pairs one for either side.

    A rater's last score of a row counts; one that is null or not finite is missing. With too few raters the score is
    null and its error says who is missing. Calibration is fitted over all rows, on pairs over both sides together.
    """

    model_config = ConfigDict(populate_by_name=True)

    takes: ClassVar[tuple[Grain, ...]] = ("responses", "pairs")
    aligned: ClassVar[bool] = False

    from_: tuple[str, ...] | dict[str, Weight] = Field(
        alias="from", description="Raters, each `rater` or `rater:aspect`; for how: weighted a mapping from these to weights."
    )
    how: Literal["mean", "weighted", "min", "max", "median"] = Field(
        default="mean",
        description="How scores become one; weighted: sum of weight x score over the sum of the weights' sizes, so that a "
        "negative weight counts against.",
    )
    calibrate: Literal["none", "z", "quantile"] = Field(
        default="none",
        description="Scale of each rater first; z: distance from the rater's mean in standard deviations (0 throughout for a "
        "rater whose scores are all equal); quantile: share of the rater's scores below, half of the equal ones added.",
    )
    require: Literal["all", "any"] | Count = Field(
        default="all", description="Raters that must have scored a row: all, any (at least one), or how many."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        raters = list(self.from_)
        if isinstance(self.from_, dict) != (self.how == "weighted"):
            raise ValueError("weights and `how: weighted` go together, as in `from: {rm: 0.7, judge: 0.3}`")
        if not 1 <= len(raters) <= MAX_RATERS:
            raise ValueError(f"`from` takes 1 to {MAX_RATERS} raters, got {len(raters)}")
        twice = sorted({rater for rater in raters if raters.count(rater) > 1})
        if twice:
            raise ValueError(f"`from` names {', '.join(twice)} twice")
        if isinstance(self.from_, dict) and (idle := [rater for rater, weight in self.from_.items() if weight == 0]):
            raise ValueError(f"weight of {', '.join(idle)} is 0; leave it out")
        if isinstance(self.require, int) and self.require > len(raters):
            raise ValueError(f"`require: {self.require}` of {len(raters)} raters can never be met")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """Each rater's scores."""
        split = [tables.split_rater(by) for by in self.from_]
        return {f"{column}.{rater}.{aspect or '*'}" for column in _score_columns(grain) for rater, aspect in split}

    def writes(self, grain: Grain) -> set[str]:
        """The one score."""
        return {f"{column}.{self.name}.{ASPECT}" for column in _score_columns(grain)}

    def parameters(self) -> dict[str, Any]:
        """As a recipe writes them: `from`, which Python reserves."""
        return self.model_dump(mode="json", by_alias=True)

    def feature_parameters(self) -> dict[str, Any]:
        """The raters alone: another scale or weight measures nothing anew."""
        return {"from": list(self.from_)}

    def features(self, table: pa.Table, /) -> pa.Table:
        """Each rater's scores, float32, null where missing: a column for each rater and side."""
        columns = {_feature(column, by): _scores(table, by, column) for column in _present(table) for by in self.from_}
        return pa.table({name: pa.array(values, mask=np.isnan(values)) for name, values in columns.items()})

    def decide(self, features: pa.Table, /) -> pa.Table:
        """What calibration needs to know of each rater, one row a rater."""
        return pa.Table.from_pylist([self._fit(features, by) for by in self.from_], schema=FITTED)

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The score, appended to the scores of the row or of either side."""
        fitted = state.to_pylist()
        return pa.table({column: self._score(table, column, fitted) for column in _present(table)})

    def _fit(self, features: pa.Table, by: str) -> dict[str, Any]:
        names = [_feature(column, by) for column in SCORE_COLUMNS]
        values = np.concatenate([features[name].drop_null().to_numpy() for name in names if name in features.column_names])
        if self.calibrate == "z":
            mean, spread = calibration.moments(values)
            return {"rater": by, "mean": mean, "spread": spread}
        if self.calibrate == "quantile":
            knots, ranks = calibration.distribution(values)
            return {"rater": by, "knots": knots, "ranks": ranks}
        return {"rater": by}

    def _score(self, table: pa.Table, column: str, fitted: list[dict[str, Any]]) -> pa.Array:
        values_RN = np.stack([self._calibrated(_scores(table, rater["rater"], column), rater) for rater in fitted])
        missing_RN = np.isnan(values_RN)
        lacking = (~missing_RN).sum(axis=0) < self._enough()
        score = self._reduced(values_RN, missing_RN)
        score[lacking] = np.nan
        errors = _missing_texts(missing_RN, lacking, list(self.from_))
        return tables.add_scores(table, score.astype(np.float32), self.name, ASPECT, column, error=errors)

    def _enough(self) -> int:
        if isinstance(self.require, int):
            return self.require
        return len(self.from_) if self.require == "all" else 1

    def _calibrated(self, values: np.ndarray, rater: dict[str, Any]) -> np.ndarray:
        if self.calibrate == "z":
            return calibration.standard_score(values, rater["mean"], rater["spread"])
        if self.calibrate == "quantile":
            return calibration.quantile(values, np.array(rater["knots"]), np.array(rater["ranks"]))
        return values.astype(np.float64)

    def _reduced(self, values_RN: np.ndarray, missing_RN: np.ndarray) -> np.ndarray:
        """One number a row from the raters present, (N,) float64; NaN where there are none."""
        if self.how in ("min", "max"):
            best: np.ndarray = (np.fmin if self.how == "min" else np.fmax).reduce(values_RN, axis=0)
            return best
        if self.how == "median":
            return _median(values_RN, missing_RN)
        weights = list(self.from_.values()) if isinstance(self.from_, dict) else [1.0] * len(values_RN)
        weights_R1 = np.array(weights)[:, None]
        total: np.ndarray = (np.where(missing_RN, 0.0, values_RN) * weights_R1).sum(axis=0)
        size: np.ndarray = np.where(missing_RN, 0.0, np.abs(weights_R1)).sum(axis=0)
        size[size == 0] = np.nan
        total /= size
        return total


def _score_columns(grain: Grain) -> tuple[str, ...]:
    return SCORE_COLUMNS[1:] if grain == "pairs" else SCORE_COLUMNS[:1]


def _present(table: pa.Table) -> tuple[str, ...]:
    return _score_columns("pairs" if "chosen_scores" in table.column_names else "responses")


def _feature(column: str, by: str) -> str:
    return f"{column} {by}"


def _scores(table: pa.Table, by: str, column: str) -> np.ndarray:
    """A rater's score of each row, (N,) float32; NaN where there is none or it is not finite."""
    values = tables.score_of(table, *tables.split_rater(by), column)
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def _median(values_RN: np.ndarray, missing_RN: np.ndarray) -> np.ndarray:
    ordered = np.sort(values_RN, axis=0)  # NaN goes last
    count = (~missing_RN).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(ordered) - 1)
    columns = np.arange(ordered.shape[1])
    middle: np.ndarray = (ordered[low, columns] + ordered[high, columns]) / 2
    return middle


def _missing_texts(missing_RN: np.ndarray, lacking: np.ndarray, raters: list[str]) -> pa.Array:
    """Who is missing where too few are there, in words; null elsewhere."""
    bits = (1 << np.arange(len(raters), dtype=np.int64))[:, None]
    codes = np.where(missing_RN[:, lacking], bits, 0).sum(axis=0)
    distinct, which = np.unique(codes, return_inverse=True)
    texts = []
    for code in distinct.tolist():
        absent = [rater for place, rater in enumerate(raters) if code >> place & 1]
        texts.append(f"{len(absent)} of {len(raters)} raters missing: {', '.join(absent)}")
    at = np.full(len(lacking), -1, dtype=np.int64)
    at[lacking] = which
    return pa.array(texts, pa.string()).take(pa.array(at, mask=at < 0))
