"""Put pairs into the stages of a curriculum."""

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from curate.maths import chance
from curate.maths.series import at_least
from curate.operator import DatasetOperator
from curate.relabel.evidence import evidence_field, evidence_of, named_evidence
from curate.tables import Grain


class Order(DatasetOperator):
    """`difficulty` and `stage` of every pair, by rank among all of them or among those of its prompt.

    Stages hold equal shares; of equal measures the earlier row comes first. Two stages parted at a reward's margin are the easy
    and the hard set of MPO; with `within: prompt`, three stages are Curry-DPO's: each prompt's easiest pair in the first, its
    hardest in the last. A pair without the measure has no stage. Sorted by difficulty, one stage is the curriculum by itself.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)

    by: Annotated[str | None, AfterValidator(named_evidence)] = Field(
        default=None, description="Evidence as step:name, a margin or a loss; the column margin if not given."
    )
    easy: Literal["high", "low"] = Field(default="high", description="Whether a high (margin) or a low (loss) measure is easy.")
    within: Literal["all", "prompt"] = Field(default="all", description="Rank among all pairs, or among those of one prompt.")
    stages: int = Field(default=3, ge=1, le=1000, description="How many stages, the easiest first.")
    first: Literal["easy", "hard"] = Field(default="easy", description="Which pairs stage 0 holds.")
    cut_at: FiniteFloat | None = Field(
        default=None, description="Two stages, parted at this value of the measure (itself easy) instead of by share."
    )
    replace: bool = Field(default=False, description="Allow overwriting stages of an earlier step.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.cut_at is not None and "stages" in self.model_fields_set and self.stages != 2:
            raise ValueError(f"cut_at makes two stages, got stages: {self.stages}; leave one of both out")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """The measure, and the prompt it is ranked within."""
        told = evidence_field(self.by) if self.by else "margin"
        return {told} | ({"prompt_id"} if self.within == "prompt" else set())

    def writes(self, grain: Grain) -> set[str]:
        """Difficulty (share of pairs that are easier) and stage."""
        return {"difficulty", "stage"}

    def feature_parameters(self) -> dict[str, Any]:
        """The measure, and whether prompts are told apart."""
        return {"by": self.by, "within": self.within}

    def features(self, table: pa.Table, /) -> pa.Table:
        """The measure, and a number for the prompt."""
        told = evidence_of(table, self.by) if self.by else table["margin"].to_numpy()
        one = np.zeros(table.num_rows, np.uint64)
        group = chance.hash_texts(table["prompt_id"], 0) if self.within == "prompt" else one
        return pa.table({"measure": pa.array(told.astype(np.float32)), "group": pa.array(group)})

    def decide(self, features: pa.Table, /) -> pa.Table:
        """Rank and stage of each pair."""
        told = features["measure"].to_numpy().astype(np.float64)
        missing = np.isnan(told)
        known = np.flatnonzero(~missing)
        hardness = -told[known] if self.easy == "high" else told[known]
        rank, size = ranks_within(features["group"].to_numpy()[known], hardness)
        stage, last = rank * self.stages // size, self.stages - 1
        if self.cut_at is not None:
            stage, last = (~at_least(-hardness, self.cut_at if self.easy == "high" else -self.cut_at)).astype(np.int64), 1
        difficulty, stages = np.zeros(len(told), np.float32), np.zeros(len(told), np.int32)
        difficulty[known], stages[known] = rank / size, stage if self.first == "easy" else last - stage
        return pa.table({"difficulty": pa.array(difficulty, mask=missing), "stage": pa.array(stages, mask=missing)})

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The two columns."""
        return state.select(["difficulty", "stage"])


def ranks_within(group_N: np.ndarray, value_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's place by rising value in its group, from 0, and the size of the group, (N,) int64 each; ties by position."""
    _, which, counts = np.unique(group_N, return_inverse=True, return_counts=True)
    order = np.lexsort((value_N, which))
    rank = np.empty(len(value_N), np.int64)
    rank[order] = np.arange(len(value_N)) - (np.cumsum(counts) - counts)[which[order]]
    return rank, counts[which]
