"""Plant wrong labels, and keep the truth where no feature looks."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate import tables
from curate.maths import chance
from curate.maths.planted import chances
from curate.maths.series import one_series, series_field
from curate.operator import DatasetOperator
from curate.relabel.goal import exchange
from curate.tables import Grain


class InjectNoise(DatasetOperator):
    """Exchange the sides of some pairs, drawn by id, for experiments with filters.

    Evidence `planted` (1: exchanged, 0: not) is the truth. Ids, parents and origin stay, so that nothing but the evidence
    tells an exchanged pair: which side is named first, and a pair's id, are all a filter could otherwise look at.

    - symmetric: every pair alike. - annotator: by the rater of the first vote, from few flips to many, by the rater's name.
    - gap: the closer the two scores by `by`, the likelier. - length: only pairs whose chosen side is the shorter.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)
    makes: ClassVar[Grain | None] = "pairs"
    aligned: ClassVar[bool] = True

    rate: float = Field(ge=0, le=0.5, description="Share of labels to flip.")
    kind: Literal["symmetric", "annotator", "gap", "length"] = Field(default="symmetric", description="Which labels are flipped.")
    by: str | None = Field(default=None, description="gap: a score series, rater or rater:aspect; the margin if not given.")
    seed: int = Field(default=0, ge=0, description="Seed of the draw.")

    @model_validator(mode="after")
    def _by_belongs_to_gap(self) -> Self:
        if self.by is not None and self.kind != "gap":
            raise ValueError(f"by belongs to kind: gap, got kind: {self.kind}")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """What the kind goes by, and ids."""
        told = {"annotator": {"votes"}, "length": {"chosen", "rejected"}}.get(self.kind, set())
        if self.kind == "gap":
            told = {series_field(self.by, f"{side}_scores") for side in ("chosen", "rejected")} if self.by else {"margin"}
        return {"pair_id"} | told

    def writes(self, grain: Grain) -> set[str]:
        """The truth."""
        return {f"evidence.{self.name}.planted"}

    def feature_parameters(self) -> dict[str, Any]:
        """All but the rate and the name."""
        return {"kind": self.kind, "by": self.by, "seed": self.seed}

    def features(self, table: pa.Table, /) -> pa.Table:
        """A draw in [0, 1) by id, the measure, and the annotator."""
        draw = chance.uniform(chance.hash_texts(table["pair_id"], self.seed))
        who = _first_rater(table["votes"]) if self.kind == "annotator" else pa.repeat(pa.scalar("", pa.string()), table.num_rows)
        return pa.table({"draw": pa.array(draw), "measure": pa.array(self._measure(table)), "who": who})

    def _measure(self, table: pa.Table) -> np.ndarray:
        if self.kind == "length":
            chosen, rejected = (pc.fill_null(pc.utf8_length(table[side]), 0).to_numpy() for side in ("chosen", "rejected"))
            return np.asarray(chosen.astype(np.float64) - rejected)
        if self.kind != "gap":
            return np.zeros(table.num_rows)
        if self.by is None:
            return np.asarray(table["margin"].to_numpy().astype(np.float64))
        chosen, rejected = (one_series(table, self.by, f"{side}_scores") for side in ("chosen", "rejected"))
        return np.asarray((chosen - rejected).astype(np.float64))

    def decide(self, features: pa.Table, /) -> pa.Table:
        """Which pairs are exchanged."""
        names, who = np.unique(features["who"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
        odds = chances(self.kind, self.rate, features.num_rows, features["measure"].to_numpy(), who)
        return pa.table({"planted": pa.array(features["draw"].to_numpy() < odds)})

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The pairs, some exchanged, with the truth as evidence."""
        planted = state["planted"].to_numpy(zero_copy_only=False).astype(bool)
        rows = exchange(table, np.arange(table.num_rows), planted)
        evidence = tables.add_evidence(rows, planted.astype(np.float32), self.name, "planted")
        return rows.set_column(rows.column_names.index("evidence"), "evidence", evidence)


def _first_rater(votes: pa.ChunkedArray) -> pa.Array:
    """The rater of each pair's first vote; empty where there is none."""
    lists = tables.flat(votes)
    names = np.full(len(lists), "", dtype=object)
    rows, first = np.unique(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), return_index=True)
    names[rows] = pc.fill_null(pc.struct_field(lists.flatten(), "rater"), "").to_numpy(zero_copy_only=False)[first]
    return pa.array(names, pa.string())
