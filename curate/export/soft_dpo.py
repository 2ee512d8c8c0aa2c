"""Pairs with the probability that their label is right, and their weight."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ExportError
from curate.export import schemas
from curate.export.format import Run, TrlFormat, shortest


class SoftDpo(TrlFormat):
    """Preference with `label_prob` p and `weight` w, for the loss w (p L(chosen > rejected) + (1 - p) L(rejected > chosen)).

    TRL's DPOTrainer prepares the rows and ignores both columns: its `label_smoothing` is one number for all rows, so the loss
    needs a few lines of your own. Null weights count as 1. A version without one of the columns is exported with the other
    alone if `--drop` says so. Margins, which RewardTrainer of TRL, OpenRLHF and ms-swift subtract, are another thing: see
    trl-reward.
    """

    name: ClassVar[str] = "soft-dpo"
    proof: ClassVar[str | None] = "trl-dpo"
    description: ClassVar[str] = "prompt, chosen and rejected messages, label_prob and weight"
    trainer: ClassVar[str] = "a DPO loss with soft labels"
    carries: ClassVar[frozenset[str]] = frozenset({"goal", "label_prob", "weight"})
    load: ClassVar[str] = (
        "from datasets import load_dataset\n"
        "rows = load_dataset({path!r}, split={split!r})\n"
        'p = rows["label_prob"]  # of pair i: -weight * (p[i] * logsigmoid(h[i]) + (1 - p[i]) * logsigmoid(-h[i]))'
    )

    def prepare(self, run: Run) -> None:
        """Refuse a version without probabilities, unless they are dropped and there are weights."""
        columns = {name: run.has(name) for name in ("label_prob", "weight") if name not in run.options.drop}
        if not any(columns.values()):
            raise ExportError(
                f"soft-dpo needs label_prob, and {run.version} has none: add a step that writes it (prefer, label_em, "
                f"consistency, soft_label), or export as trl-dpo"
            )
        if columns.get("label_prob") is False:
            raise ExportError(f"{run.version} has weights and no label_prob: say --drop label_prob to export weights alone")

    def reads(self, run: Run) -> list[str]:
        """The two columns besides."""
        return super().reads(run) + [name for name in ("label_prob", "weight") if name not in run.options.drop]

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """One row a pair that has a probability."""
        if "label_prob" in table.column_names:
            table = labelled(table, run, table["label_prob"])
            run.counts["label_prob_below_half"] += pc.sum(pc.less(table["label_prob"], 0.5)).as_py() or 0
        table = self.asked(self.without_identical(table, run), run)
        columns = {name: table[name] for name in schemas.DPO if name in table.column_names}
        if "label_prob" in table.column_names:
            columns["label_prob"] = shortest(table["label_prob"])
        if "weight" not in run.options.drop:
            columns["weight"] = weights(table)
        return pa.table(columns)

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.SOFT, ["prompt", "chosen", "rejected", "pair_id"])


def labelled(table: pa.Table, run: Run, *columns: pa.ChunkedArray) -> pa.Table:
    """The pairs with a number in all these columns; the others are counted as unlabelled."""
    known = np.ones(table.num_rows, dtype=bool)
    for column in columns:
        known &= pc.fill_null(pc.is_finite(column), False).to_numpy(zero_copy_only=False)
    run.leave_out("unlabelled", ~known, table["pair_id"])
    return table.filter(pa.array(known))


def weights(table: pa.Table) -> pa.ChunkedArray:
    """Each pair's weight; 1 for none."""
    if "weight" not in table.column_names:
        return pa.chunked_array([np.ones(table.num_rows)])
    return pc.fill_null(shortest(table["weight"]), 1.0)
