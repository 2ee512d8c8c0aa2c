"""Pairs for TRL's DPOTrainer."""

from typing import Any, ClassVar

import pyarrow as pa

from curate.export import schemas
from curate.export.format import Run, TrlFormat


class TrlDpo(TrlFormat):
    """Preference, conversational, explicit prompt."""

    name: ClassVar[str] = "trl-dpo"
    proof: ClassVar[str | None] = name
    description: ClassVar[str] = "prompt, chosen and rejected messages"
    trainer: ClassVar[str] = "DPOTrainer"
    load: ClassVar[str] = (
        "from datasets import load_dataset\n"
        "from trl import DPOTrainer\n"
        'DPOTrainer("MODEL", train_dataset=load_dataset({path!r}, split={split!r})).train()'
    )

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """One row a pair."""
        table = self.asked(self.without_identical(table, run), run)
        return table.select([name for name in schemas.DPO if name in table.column_names])

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.DPO, ["prompt", "chosen", "rejected", "pair_id"])
