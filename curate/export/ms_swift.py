"""Pairs for ms-swift, with the margin where every pair has one."""

from typing import Any, ClassVar

import pyarrow as pa

from curate import tables
from curate.export import schemas
from curate.export.format import Run
from curate.export.trl_reward import TrlReward


class MsSwift(TrlReward):
    """Two conversations, `messages` and `rejected_messages`, and `margin`, which its reward trainer reads beside them."""

    name: ClassVar[str] = "ms-swift"
    proof: ClassVar[str | None] = None
    description: ClassVar[str] = "messages, rejected_messages, and the margin if every pair has one"
    trainer: ClassVar[str] = "ms-swift (dpo, orpo, cpo, simpo, rm)"
    tested: ClassVar[str] = "ms-swift>=3.8, its documentation, read not run"
    load: ClassVar[str] = (
        "from datasets import load_dataset  # or: swift rlhf --rlhf_type rm --dataset FILE\n"
        "rows = load_dataset({path!r}, split={split!r})\n"
        "print(rows[0])"
    )

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """One row a pair."""
        table = super().rows(table, run)
        columns = {
            "messages": tables.concat_lists(table["prompt"], table["chosen"]),
            "rejected_messages": tables.concat_lists(table["prompt"], table["rejected"]),
        }
        if "tools" in table.column_names:
            columns |= {"tools": table["tools"], "rejected_tools": table["tools"]}
        return pa.table(columns | {name: table[name] for name in ("pair_id", "margin") if name in table.column_names})

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.SWIFT, ["messages", "rejected_messages", "pair_id"])
