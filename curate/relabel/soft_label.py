"""Say how likely the label of a pair is right, from margins or from how far raters agreed."""

from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curate import tables
from curate.maths.series import one_series, series_field
from curate.operator import DatasetOperator
from curate.relabel.evidence import evidence_field, named_evidence, wrong_probability
from curate.tables import Grain

MEASURE = "measure"
STATE = pa.schema([("threshold", pa.float64()), ("mean", pa.float64())])


class SoftLabel(DatasetOperator):
    """The column `label_prob`: the probability that the chosen side is better, for a loss with soft labels.

    - margin: 1 - `alpha` for the pairs with the smallest margins by a score series, a share `quantile` of all, and 1 for the
      others; null where a side has no score (Selfie).
    - evidence: what a filter found, as `by` names it (step:name): 1 - p of a probability that the label is wrong, such as
      peer_review:flip_prob; p itself where it is called label_prob, such as label_em:label_prob; null where there is none.
    - score: the chosen side's score itself, in [0, 1], which a prompt's responses share; where there is none the mean over all
      pairs. mean: that mean for every pair. With `consistency` on the responses these are CREAM's two ways.

    Evidence `measure`: the margin, the score or the probability. Thresholds and means are taken over all pairs of the run.

    Sources: Kim et al., "Spread Preference Annotation: Direct Preference Judgment for Efficient LLM Alignment", 2025,
    arXiv:2406.04412, equation 10, there over the margins of the latest training steps; Wang et al., "CREAM: Consistency
    Regularized Self-Rewarding Language Models", 2025, arXiv:2410.12735, algorithm 1.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)
    aligned: ClassVar[bool] = False

    by: str = Field(description="The score series, rater or rater:aspect; evidence: the measure, step:name.")
    how: Literal["margin", "evidence", "score", "mean"] = Field(default="margin", description="What the probability is made of.")
    quantile: float | None = Field(default=None, gt=0, lt=1, description="margin: share of the pairs to doubt; 0.1 if not given.")
    alpha: float | None = Field(
        default=None, gt=0, le=0.5, description="margin: probability that a doubted label is wrong; 0.1 if not given."
    )
    replace: bool = Field(default=False, description="Allow overwriting a label_prob that an earlier step wrote.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.how != "margin" and (self.quantile is not None or self.alpha is not None):
            raise ValueError(f"quantile and alpha belong to how: margin, got how: {self.how}")
        if self.how == "evidence":
            named_evidence(self.by)
        return self

    def reads(self, grain: Grain) -> set[str]:
        """The score series of both sides, or of the chosen one; or the evidence."""
        if self.how == "evidence":
            return {evidence_field(self.by)}
        sides = ("chosen", "rejected") if self.how == "margin" else ("chosen",)
        return {series_field(self.by, f"{side}_scores") for side in sides}

    def writes(self, grain: Grain) -> set[str]:
        """The probability and what it was made of."""
        return {"label_prob", f"evidence.{self.name}.{MEASURE}"}

    def feature_parameters(self) -> dict[str, object]:
        """The measure alone."""
        return {"by": self.by, "of": self.how if self.how in ("margin", "evidence") else "score"}

    def features(self, table: pa.Table, /) -> pa.Table:
        """The measure of every pair."""
        return pa.table({MEASURE: self._measure(table)})

    def decide(self, features: pa.Table, /) -> pa.Table:
        """The threshold of doubtful margins, and the mean score; null where there is none."""
        values = features[MEASURE].to_numpy().astype(np.float64)
        told = values[~np.isnan(values)]
        if self.how in ("score", "mean") and ((told < 0) | (told > 1)).any():
            raise ValueError(
                f"how: {self.how} takes scores in [0, 1] as probabilities; {self.by} has {told.min():g}..{told.max():g}"
            )
        if not len(told):
            return pa.Table.from_pylist([{}], schema=STATE)
        threshold = float(np.quantile(told, 0.1 if self.quantile is None else self.quantile))
        return pa.Table.from_pylist([{"threshold": threshold, "mean": float(told.mean())}], schema=STATE)

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The probability of every pair."""
        measure = self._measure(table)
        threshold, mean = (np.nan if value is None else value for value in state.to_pylist()[0].values())
        if self.how == "margin":
            doubted = measure <= threshold
            found = np.where(np.isnan(measure), np.nan, np.where(doubted, 1 - (0.1 if self.alpha is None else self.alpha), 1.0))
        else:
            found = measure if self.how == "evidence" else np.where(np.isnan(measure) | (self.how == "mean"), mean, measure)
        return pa.table(
            {
                "label_prob": pa.array(found, pa.float32(), mask=np.isnan(found)),
                "evidence": tables.add_evidence(table, measure.astype(np.float32), self.name, MEASURE),
            }
        )

    def _measure(self, table: pa.Table) -> np.ndarray:
        """Margin of the two scores, the chosen side's score or the probability, (N,) float64; NaN where there is none."""
        if self.how == "evidence":
            return 1 - wrong_probability(table, self.by).astype(np.float64)
        chosen = one_series(table, self.by, "chosen_scores").astype(np.float64)
        return chosen - one_series(table, self.by, "rejected_scores") if self.how == "margin" else chosen
