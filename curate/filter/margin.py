"""Flag pairs whose two scores are too close to tell apart, or contradict the label."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat

from curate import tables
from curate.maths.series import at_least, one_series, series_field
from curate.operator import Cut, ShardOperator
from curate.tables import Grain

REASONS = pa.array(["small_margin", "negative_margin", "no_margin"])


class Margin(ShardOperator):
    """Flag small margins: score of chosen minus score of rejected, null where a side has no score.

    Without `by`, the margin that pairing (or the source) wrote is used; with it, that of another score series is worked
    out and becomes the column. Either way it is kept as evidence `margin`.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)

    by: str | None = Field(default=None, description="A score series, rater or rater:aspect; the column `margin` if not given.")
    min: FiniteFloat | None = Field(default=None, description="Smallest margin to keep, in the rater's unit; none if not given.")
    drop_negative: bool = Field(default=False, description="Drop pairs whose rejected side scores higher.")
    # no reward is no evidence of a margin
    missing: Literal["keep", "drop"] = Field(default="keep", description="What happens to pairs with an unscored side.")
    write: bool = Field(default=True, description="Whether the margin by `by` becomes the column `margin`.")
    replace: bool = Field(default=False, description="Allow overwriting a margin that an earlier step wrote.")

    def reads(self, grain: Grain) -> set[str]:
        """The score series, of both sides, or the column."""
        if self.by is None:
            return {"margin"}
        return {series_field(self.by, "chosen_scores"), series_field(self.by, "rejected_scores")}

    def writes(self, grain: Grain) -> set[str]:
        """The measure, flags and, unless told otherwise, the column."""
        written = {f"evidence.{self.name}.margin", "flags"}
        return written | {"margin"} if self.by and self.write else written

    def cut(self) -> Cut | None:
        """The smallest margin; none where `drop_negative` also drops, which no single threshold tells."""
        return None if self.min is None or self.drop_negative else Cut("margin", ">=", self.min, "min")

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The margin of every pair, and a flag on those it drops."""
        margins = self._margins(table)
        unknown = np.isnan(margins)
        negative = (margins < 0) & self.drop_negative
        small = np.zeros(len(margins), dtype=bool) if self.min is None else ~at_least(margins, self.min) & ~unknown
        dropped = small | negative | (unknown & (self.missing == "drop"))
        reasons = REASONS.take(pa.array(np.where(unknown, 2, np.where(negative, 1, 0))))
        columns = {
            "evidence": tables.add_evidence(table, margins, self.name, "margin"),
            "flags": tables.add_flags(table, dropped, self.name, reasons, value=margins),
        }
        if self.by and self.write:
            columns["margin"] = pa.array(margins, mask=unknown)
        return pa.table(columns)

    def _margins(self, table: pa.Table) -> np.ndarray:
        if self.by is None:
            column: np.ndarray = table["margin"].to_numpy()
            return column
        chosen, rejected = (one_series(table, self.by, f"{side}_scores") for side in ("chosen", "rejected"))
        gap: np.ndarray = chosen - rejected
        return gap
