"""Exchange the sides of pairs whose label is probably wrong."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curate import ids, tables
from curate.operator import ShardOperator
from curate.relabel.goal import exchange
from curate.tables import Grain


class Flip(ShardOperator):
    """Pairs whose label is wrong with more than a probability get their sides exchanged; all others pass unchanged.

    Everything that belongs to a side goes with it: texts, ids, models, scores, votes, spans, the sign of the margin, and
    label_prob becomes 1 - label_prob. A flipped pair has origin `flipped`, an id of its own and its parent's id.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)
    makes: ClassVar[Grain | None] = "pairs"

    by: str | None = Field(
        default=None, description="Evidence that holds the probability of a wrong label, as step:name; label_prob if not given."
    )
    above: float = Field(default=0.5, ge=0, lt=1, description="Flip where a wrong label is more probable than this.")

    def reads(self, grain: Grain) -> set[str]:
        """The probability."""
        return {evidence_field(self.by)} if self.by else {"label_prob"}

    def writes(self, grain: Grain) -> set[str]:
        """What tells a flipped pair."""
        return {"origin", "pair_id", "parent_id"}

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The same number of pairs, the wrong ones turned."""
        wrong = evidence_of(table, self.by) if self.by else 1 - table["label_prob"].to_numpy().astype(np.float32)
        turned = np.nan_to_num(wrong, nan=0.0) > np.float32(self.above)
        return turn(table, turned)


def turn(table: pa.Table, turned: np.ndarray) -> pa.Table:
    """The pairs with the sides exchanged where told, with ids, origin and parent that say so; all columns but `row`."""
    rows = exchange(table, np.arange(table.num_rows), turned)
    where = pa.array(turned)
    named = zip(*(rows[name].to_pylist() for name in ("chosen_id", "rejected_id", "goal")), strict=True)
    old, parents = rows["pair_id"], rows["parent_id"]
    fresh = pa.array(
        [ids.pair_id(*sides) if new else kept for sides, new, kept in zip(named, turned, old.to_pylist(), strict=True)],
        pa.string(),
    )
    probability = pc.if_else(where, pc.subtract(pa.scalar(1, pa.float32()), rows["label_prob"]), rows["label_prob"])
    for name, column in {
        "label_prob": probability,
        "origin": pc.if_else(where, "flipped", rows["origin"]),
        "parent_id": pc.if_else(where, old, parents),
        "pair_id": fresh,
    }.items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


def evidence_of(table: pa.Table, by: str) -> np.ndarray:
    """The measure `step:name` of every pair, (N,) float32; NaN where there is none."""
    step, _, name = by.rpartition(":")
    return tables.value_of(table["evidence"], by=step, name=name)


def evidence_field(by: str) -> str:
    """The measure as an entry of `reads`."""
    step, _, name = by.rpartition(":")
    return f"evidence.{step}.{name}"
