"""Exchange the sides of pairs whose label is probably wrong."""

from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field

from curate import ids, tables
from curate.operator import ShardOperator
from curate.relabel.evidence import TURNED, evidence_field, named_evidence, wrong_probability
from curate.relabel.goal import exchange
from curate.tables import Grain


class Flip(ShardOperator):
    """Pairs whose label is wrong with more than a probability get their sides exchanged; all others pass unchanged.

    Everything that belongs to a side goes with it: texts, ids, models, scores, votes, spans, the sign of the margin, and
    label_prob becomes 1 - label_prob. A flipped pair has origin `flipped`, an id of its own and its parent's id. Evidence
    `turned`: 1 for a flipped pair, 0 for another; probabilities measured before speak of the label before, so that another
    flip by the same evidence changes nothing.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)
    makes: ClassVar[Grain | None] = "pairs"

    by: Annotated[str | None, AfterValidator(named_evidence)] = Field(
        default=None,
        description="Evidence that holds the probability of a wrong label, as step:name, such as peer_review:flip_prob, or of a "
        "right one where its name is label_prob, such as label_em:label_prob; the column label_prob if not given.",
    )
    above: float = Field(default=0.5, ge=0, lt=1, description="Flip where a wrong label is more probable than this.")

    def reads(self, grain: Grain) -> set[str]:
        """The probability."""
        return {evidence_field(self.by)} if self.by else {"label_prob"}

    def writes(self, grain: Grain) -> set[str]:
        """What tells a flipped pair."""
        return {"origin", "pair_id", "parent_id", f"evidence.{self.name}.{TURNED}"}

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The same number of pairs, the wrong ones turned."""
        turned = np.nan_to_num(wrong_probability(table, self.by), nan=0.0) > np.float32(self.above)
        rows = turn(table, turned)
        evidence = tables.add_evidence(rows, turned.astype(np.float32), self.name, TURNED)
        return rows.set_column(rows.column_names.index("evidence"), "evidence", evidence)


def turn(table: pa.Table, turned: np.ndarray) -> pa.Table:
    """The pairs with the sides exchanged where told, with ids, origin and parent that say so; all columns but `row`."""
    rows = exchange(table, np.arange(table.num_rows), turned)
    where = pa.array(turned)
    at = pa.array(np.flatnonzero(turned))
    named = zip(*(rows[name].take(at).to_pylist() for name in ("chosen_id", "rejected_id", "goal")), strict=True)
    fresh = pa.array([ids.pair_id(*sides) for sides in named], pa.string())
    old = tables.flat(rows["pair_id"])
    for name, column in {
        "label_prob": pc.if_else(where, pc.subtract(pa.scalar(1, pa.float32()), rows["label_prob"]), rows["label_prob"]),
        "origin": pc.if_else(where, "flipped", rows["origin"]),
        "parent_id": pc.if_else(where, old, rows["parent_id"]),
        "pair_id": pc.replace_with_mask(old, where, fresh),
    }.items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows
