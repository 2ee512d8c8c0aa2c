"""Write how much a pair counts in training."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.operator import ShardOperator
from curate.relabel.flip import evidence_field, evidence_of
from curate.tables import Grain


class Weight(ShardOperator):
    """`weight` of a pair, in [0, 1], from what is known of it; null (counts as 1) where that is null.

    - confidence: |2 p - 1|, p the probability that the label is right: a label like a coin counts nothing.
    - right: p itself.
    - margin: s(m / scale), m the margin, s the logistic function: clear pairs count more.
    - hardness: 1 - s(m / scale): hard pairs count more.
    - level: min(m / scale, 1) of a difference of levels, none below zero.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)

    how: Literal["confidence", "right", "margin", "hardness", "level"] = Field(description="What decides the weight.")
    by: str | None = Field(
        default=None, description="Evidence as step:name; if not given, the column label_prob (confidence, right) or margin."
    )
    scale: float = Field(default=1.0, gt=0, description="margin, hardness, level: the margin that makes a difference.")
    min: float = Field(default=0.0, ge=0, le=1, description="Smallest weight.")
    replace: bool = Field(default=False, description="Allow overwriting the weight of an earlier step.")

    def _column(self) -> str:
        return "label_prob" if self.how in ("confidence", "right") else "margin"

    def reads(self, grain: Grain) -> set[str]:
        """The measure or column."""
        return {evidence_field(self.by)} if self.by else {self._column()}

    def writes(self, grain: Grain) -> set[str]:
        """The weight."""
        return {"weight"}

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The weight of every pair."""
        told = evidence_of(table, self.by) if self.by else table[self._column()].to_numpy().astype(np.float32)
        sided = 0.5 + 0.5 * np.tanh(told / self.scale / 2)
        weight = {
            "confidence": np.abs(2 * told - 1),
            "right": told,
            "margin": sided,
            "hardness": 1 - sided,
            "level": told / self.scale,
        }[self.how]
        weight = np.clip(weight, self.min, 1).astype(np.float32)
        return pa.table({"weight": pa.array(weight, mask=np.isnan(weight))})
