"""Flag rows whose score does not reach a threshold."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat

from curate import tables
from curate.maths.series import at_least, one_series, series_field
from curate.operator import Cut, ShardOperator
from curate.tables import Grain

REASONS = pa.array(["low_score", "no_score"])


class Threshold(ShardOperator):
    """Keep the prompts or responses that a rater gives at least `min`; the score is kept as evidence `score`."""

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("prompts", "responses")

    by: str = Field(description="The score series: rater or rater:aspect.")
    min: FiniteFloat = Field(description="Smallest score to keep, in the rater's unit.")
    # whoever filters by a judge pays for what passes: what it said nothing about does not
    missing: Literal["keep", "drop"] = Field(default="drop", description="What happens to rows without a score.")

    def reads(self, grain: Grain) -> set[str]:
        """The score series."""
        return {series_field(self.by, "scores")}

    def writes(self, grain: Grain) -> set[str]:
        """The measure and flags."""
        return {f"evidence.{self.name}.score", "flags"}

    def cut(self) -> Cut | None:
        """The smallest score."""
        return Cut("score", ">=", self.min, "min")

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The score of every row, and a flag on those that fall short."""
        scores = one_series(table, self.by)
        unknown = np.isnan(scores)
        dropped = np.where(unknown, self.missing == "drop", ~at_least(scores, self.min))
        reasons = REASONS.take(pa.array(unknown.astype(np.int8)))
        return pa.table(
            {
                "evidence": tables.add_evidence(table, scores, self.name, "score"),
                "flags": tables.add_flags(table, dropped, self.name, reasons, value=scores),
            }
        )
