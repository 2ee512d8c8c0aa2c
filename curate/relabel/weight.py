"""Write how much a pair counts in training."""

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from curate.maths import weights
from curate.maths.series import one_series, series_field
from curate.operator import DatasetOperator
from curate.relabel.evidence import evidence_field, evidence_of, named_evidence, wrong_probability
from curate.tables import Grain

How = Literal["confidence", "right", "margin", "hardness", "likelihood", "level"]
COLUMNS = {"confidence": "label_prob", "right": "label_prob", "margin": "margin", "hardness": "difficulty"}
"""What is taken where no evidence is named."""
OWN: dict[str, tuple[How, ...]] = {
    "by": ("confidence", "right", "margin", "hardness"),
    "scores": ("likelihood", "level"),
    "policy": ("likelihood",),
    "gap": ("hardness",),
    "factor": ("margin", "level"),
    "scale": ("margin", "hardness"),
    "top": ("level",),
}
"""Parameters that only some ways take."""


class Weight(DatasetOperator):
    """`weight` of a pair from what is known of it; null (counts as 1) where that is null.

    - confidence: |2 p - 1|, p the probability that the label is right: a label like a coin counts nothing.
    - right: p itself.
    - margin: 1 + factor (1 - exp(-m / scale)), m the margin: clear pairs count more (MM-RLHF, there the pair's factor of beta).
    - hardness: s(h / scale) / s(mean h / scale), s the logistic function, h how hard a pair is: hard pairs count more. With
      `gap`, times one number for all pairs, how a model responds to them (DR-IRL).
    - likelihood: s(r - q), r the mean log-probability a token that the aligned models of `scores` give the chosen side, q what
      the model to be trained gives it (PoFT).
    - level: factor where the chosen side is on the top level, else 1 (TRPA).

    Sources and formulas: curate/maths/weights.py. Means and the top level are those of all pairs of the run.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)
    aligned: ClassVar[bool] = False

    how: How = Field(description="What decides the weight.")
    by: Annotated[str | None, AfterValidator(named_evidence)] = Field(
        default=None,
        description="Evidence as step:name. If not given: confidence and right take the column label_prob, margin the column "
        "margin, hardness the column difficulty that `order` writes.",
    )
    scores: tuple[str, ...] = Field(
        default=(),
        description="Score series of the chosen side: the mean log-probabilities of the aligned models for likelihood, such as "
        "a:mean_logprob; the one of the level for level.",
    )
    policy: str | None = Field(
        default=None,
        description="likelihood: the series of the model to be trained; if not given, one to which all answers are as likely as "
        "they are on average to the others.",
    )
    gap: Annotated[str | None, AfterValidator(named_evidence)] = Field(
        default=None, description="hardness: evidence step:name of a model's reward gaps."
    )
    outliers: float = Field(default=3.0, gt=0, description="hardness, gap: standard deviations beyond which a gap is left out.")
    factor: FiniteFloat | None = Field(default=None, ge=0, description="margin: 0.5 if not given; level: 2.5 if not given.")
    scale: FiniteFloat | None = Field(
        default=None, gt=0, description="The measure that makes a difference; 2 for margin and 1 for hardness if not given."
    )
    top: FiniteFloat | None = Field(default=None, description="level: the top level; the highest there is if not given.")
    min: float = Field(default=0.0, ge=0, le=1, description="Smallest weight.")
    replace: bool = Field(default=False, description="Allow overwriting the weight of an earlier step.")

    @model_validator(mode="after")
    def _fits_way(self) -> Self:
        for name, ways in OWN.items():
            if getattr(self, name) not in (None, ()) and self.how not in ways:
                raise ValueError(f"{name} belongs to how: {' and '.join(ways)}, got how: {self.how}")
        if self.how == "likelihood" and not self.scores:
            raise ValueError("how: likelihood needs scores, one series of mean log-probabilities for each aligned model")
        if self.how == "level" and len(self.scores) != 1:
            raise ValueError("how: level needs scores, the one series of the level")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """The measures or columns."""
        if self.how in OWN["scores"]:
            return {series_field(by, "chosen_scores") for by in (*self.scores, *([self.policy] if self.policy else []))}
        told = evidence_field(self.by) if self.by else COLUMNS[self.how]
        return {told} | ({evidence_field(self.gap)} if self.gap else set())

    def writes(self, grain: Grain) -> set[str]:
        """The weight."""
        return {"weight"}

    def feature_parameters(self) -> dict[str, Any]:
        """What is measured: another factor or scale reuses it."""
        names = {"how", "by", "scores", "policy", "gap"}
        return self.model_dump(mode="json", include=names)

    def features(self, table: pa.Table, /) -> pa.Table:
        """measure and, where there are two, other."""
        measure, other = self._measures(table)
        return pa.table({"measure": pa.array(measure, pa.float64()), "other": pa.array(other, pa.float64())})

    def _measures(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """What the weight is made of, and the policy's likelihood or the gap, (N,) float64 each; NaN where there is none."""
        none = np.full(table.num_rows, np.nan)
        if self.how in ("confidence", "right"):
            return 1 - wrong_probability(table, self.by).astype(np.float64), none
        if self.how in OWN["scores"]:
            told = np.stack([one_series(table, by, "chosen_scores").astype(np.float64) for by in self.scores], axis=1)
            return told.mean(axis=1), one_series(table, self.policy, "chosen_scores").astype(np.float64) if self.policy else none
        told = evidence_of(table, self.by) if self.by else table[COLUMNS[self.how]].to_numpy()
        return told.astype(np.float64), evidence_of(table, self.gap).astype(np.float64) if self.gap else none

    def decide(self, features: pa.Table, /) -> pa.Table:
        """mean: of the measure; most: its maximum; response: of the model, where gaps are told. Null where nothing is known."""
        measure = features["measure"].to_numpy()
        told = measure[~np.isnan(measure)]
        response = weights.responsiveness(features["other"].to_numpy(), self.outliers) if self.gap else 1.0
        known = {"mean": float(told.mean()), "most": float(told.max())} if len(told) else {"mean": None, "most": None}
        return pa.table({name: pa.array([value], pa.float64()) for name, value in (known | {"response": response}).items()})

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The weight of every pair."""
        mean, most, response = (np.nan if value is None else value for value in state.to_pylist()[0].values())
        measure, other = self._measures(table)
        weight = np.maximum(self._weight(measure, other, mean, most, response), self.min).astype(np.float32)
        return pa.table({"weight": pa.array(weight, mask=np.isnan(weight))})

    def _weight(self, measure: np.ndarray, other: np.ndarray, mean: float, most: float, response: float) -> np.ndarray:
        if self.how == "confidence":
            return np.asarray(np.abs(2 * measure - 1))
        if self.how == "margin":
            return weights.margin_weight(measure, 0.5 if self.factor is None else self.factor, 1 / (self.scale or 2.0))
        if self.how == "hardness":
            scale = self.scale or 1.0
            return response * weights.hardness_weight(measure / scale, mean / scale)
        if self.how == "likelihood":
            return weights.likelihood_weight(measure[:, None], other if self.policy else np.full(len(measure), mean))
        if self.how == "level":
            return weights.level_weight(
                measure, most if self.top is None else self.top, 2.5 if self.factor is None else self.factor
            )
        return measure
