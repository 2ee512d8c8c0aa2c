"""Put pairs into the stages of a curriculum."""

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.operator import DatasetOperator
from curate.relabel.flip import evidence_field, evidence_of
from curate.tables import Grain


class Order(DatasetOperator):
    """`difficulty` and `stage` of every pair, by rank among all of them.

    Stages hold equal shares; of equal measures the earlier row comes first. Two stages by a reward's margin are the easy
    and the hard set of MPO; three or more the curriculum of Curry-DPO. A pair without the measure has no stage.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)

    by: str | None = Field(default=None, description="Evidence as step:name; the column margin if not given.")
    easy: Literal["high", "low"] = Field(default="high", description="Whether a high or a low measure is easy.")
    stages: int = Field(default=3, ge=1, le=1000, description="How many stages, the easiest first.")
    first: Literal["easy", "hard"] = Field(default="easy", description="Which pairs stage 0 holds.")
    cut_at: float | None = Field(default=None, description="Two stages, parted at this value of the measure instead of by share.")
    replace: bool = Field(default=False, description="Allow overwriting stages of an earlier step.")

    def reads(self, grain: Grain) -> set[str]:
        """The measure."""
        return {evidence_field(self.by)} if self.by else {"margin"}

    def writes(self, grain: Grain) -> set[str]:
        """Difficulty (share of pairs that are easier) and stage."""
        return {"difficulty", "stage"}

    def feature_parameters(self) -> dict[str, Any]:
        """The measure alone."""
        return {"by": self.by}

    def features(self, table: pa.Table, /) -> pa.Table:
        """The measure."""
        told = evidence_of(table, self.by) if self.by else table["margin"].to_numpy()
        return pa.table({"measure": pa.array(told.astype(np.float32))})

    def decide(self, features: pa.Table, /) -> pa.Table:
        """Rank and stage of each pair."""
        told = features["measure"].to_numpy().astype(np.float64)
        known = np.flatnonzero(~np.isnan(told))
        hardness = -told[known] if self.easy == "high" else told[known]
        order = np.argsort(hardness, kind="stable")
        rank = np.empty(len(known))
        rank[order] = np.arange(len(known)) / max(len(known), 1)
        stage = (rank * self.stages).astype(np.int32)
        if self.cut_at is not None:
            hard_at = -self.cut_at if self.easy == "high" else self.cut_at
            stage = (hardness > hard_at).astype(np.int32)
        if self.first == "hard":
            stage = (1 if self.cut_at is not None else self.stages - 1) - stage
        difficulty, stages, missing = np.zeros(len(told), np.float32), np.zeros(len(told), np.int32), np.isnan(told)
        difficulty[known], stages[known] = rank, stage
        return pa.table({"difficulty": pa.array(difficulty, mask=missing), "stage": pa.array(stages, mask=missing)})

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The two columns."""
        return state.select(["difficulty", "stage"])
