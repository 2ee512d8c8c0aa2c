"""Plant wrong labels, and keep the truth where no feature looks."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate import tables
from curate.maths import chance
from curate.maths.planted import TRUTH, chances
from curate.maths.series import one_series, series_field
from curate.operator import DatasetOperator
from curate.relabel.goal import exchange
from curate.tables import Grain

GIVEN = "preference"  # aspect of the votes that a source's labels and votes are read as


class InjectNoise(DatasetOperator):
    """Exchange the sides of some pairs, drawn by id, for experiments with filters.

    Evidence `planted` (1: exchanged, 0: not) is the truth: reports and cards tell it, and no step can name it. What the sides
    are goes with them (texts, ids, models, scores); what was claimed of the label stays as if the annotator had erred: the
    margin, label_prob, the votes that came with the data (aspect `preference`), the pair's id, origin and parent. A score
    that the label was made from still tells the truth: do not give it to a filter as a feature.

    - symmetric: every pair alike. - annotator: by who labelled, from few flips to many, by the name's place in the alphabet.
    - gap: the closer the two scores by `by`, the likelier. - length: only pairs whose chosen side is the shorter.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)
    makes: ClassVar[Grain | None] = "pairs"
    aligned: ClassVar[bool] = True

    rate: float = Field(ge=0, le=0.5, description="Share of labels to flip.")
    kind: Literal["symmetric", "annotator", "gap", "length"] = Field(default="symmetric", description="Which labels are flipped.")
    by: str | None = Field(default=None, description="gap: a score series, rater or rater:aspect; the margin if not given.")
    annotator: Literal["rater", "source", "domain"] = Field(
        default="rater", description="annotator: who labelled: the rater of a pair's first vote, or a column."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the draw.")

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if self.by is not None and self.kind != "gap":
            raise ValueError(f"by belongs to kind: gap, got kind: {self.kind}")
        if self.annotator != "rater" and self.kind != "annotator":
            raise ValueError(f"annotator belongs to kind: annotator, got kind: {self.kind}")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """What the kind goes by, and ids."""
        told: dict[str, set[str]] = {
            "annotator": {"votes" if self.annotator == "rater" else self.annotator},
            "length": {"chosen", "rejected"},
            "gap": {series_field(self.by, f"{side}_scores") for side in ("chosen", "rejected")} if self.by else {"margin"},
        }
        return {"pair_id"} | told.get(self.kind, set())

    def writes(self, grain: Grain) -> set[str]:
        """The truth, not by its name: a step that wants to read it is refused before a run."""
        return {"evidence"}

    def feature_parameters(self) -> dict[str, Any]:
        """All but the rate and the name."""
        return {"kind": self.kind, "by": self.by, "annotator": self.annotator, "seed": self.seed}

    def features(self, table: pa.Table, /) -> pa.Table:
        """A draw in [0, 1) by id, the measure, and the annotator."""
        draw = chance.uniform(chance.hash_texts(table["pair_id"], self.seed))
        return pa.table({"draw": pa.array(draw), "measure": pa.array(self._measure(table)), "who": self._who(table)})

    def _who(self, table: pa.Table) -> pa.Array:
        if self.kind != "annotator":
            return pa.repeat(pa.scalar("", pa.string()), table.num_rows)
        return _first_rater(table["votes"]) if self.annotator == "rater" else tables.flat(pc.fill_null(table[self.annotator], ""))

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
        told = {
            "margin": table["margin"],
            "votes": _as_given(table["votes"], rows["votes"]),
            "evidence": tables.add_evidence(rows, planted.astype(np.float32), self.name, TRUTH),
        }
        for name, column in told.items():
            rows = rows.set_column(rows.column_names.index(name), name, column)
        return rows


def _as_given(before: pa.ChunkedArray, after: pa.ChunkedArray) -> pa.Array:
    """The votes after the exchange, but those that came with the data as before: they are the label, right or wrong."""
    old, new = tables.flat(before), tables.flat(after)
    given = pc.fill_null(pc.equal(pc.struct_field(old.flatten(), "aspect"), GIVEN), False)
    entries = pc.if_else(given, old.flatten(), new.flatten())
    ends = np.cumsum(pc.fill_null(pc.list_value_length(old), 0).to_numpy(zero_copy_only=False))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, entries, type=old.type, mask=old.is_null())


def _first_rater(votes: pa.ChunkedArray) -> pa.Array:
    """The rater of each pair's first vote; empty where there is none."""
    lists = tables.flat(votes)
    names = np.full(len(lists), "", dtype=object)
    rows, first = np.unique(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), return_index=True)
    names[rows] = pc.fill_null(pc.struct_field(lists.flatten(), "rater"), "").to_numpy(zero_copy_only=False)[first]
    return pa.array(names, pa.string())
