"""Chosen responses for TRL's SFTTrainer."""

from typing import Any, ClassVar

import pyarrow as pa

from curate.export import schemas
from curate.export.format import Run, TrlFormat, first_of_each, side_keys


class TrlSft(TrlFormat):
    """Prompt and completion: the chosen side of every pair, each response once under its prompt and goal."""

    name: ClassVar[str] = "trl-sft"
    proof: ClassVar[str | None] = name
    description: ClassVar[str] = "prompt and completion messages: every chosen response once"
    trainer: ClassVar[str] = "SFTTrainer"
    load: ClassVar[str] = (
        "from datasets import load_dataset\n"
        "from trl import SFTTrainer\n"
        'SFTTrainer("MODEL", train_dataset=load_dataset({path!r}, split={split!r})).train()'
    )

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """One row a chosen response."""
        table = self.asked(table, run)
        table = table.filter(pa.array(first_of_each(side_keys(table, "chosen"), run)))
        table = table.rename_columns({"chosen": "completion", "chosen_id": "response_id"})
        return table.select([name for name in schemas.SFT if name in table.column_names])

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.SFT, ["prompt", "completion"])
