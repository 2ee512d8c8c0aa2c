"""Pairs for TRL's RewardTrainer."""

from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ExportError
from curate.export import schemas
from curate.export.format import Run, TrlFormat, shortest


class TrlReward(TrlFormat):
    """Preference, conversational, explicit prompt, with the margin where every pair has one.

    The trainer subtracts the margin from the difference of its two rewards, so it is in the unit of the reward learnt. OpenRLHF's
    reward trainer reads the same columns (prompt_key, chosen_key and rejected_key by these names) and `margin` by itself; what
    ms-swift reads is the format ms-swift.
    """

    name: ClassVar[str] = "trl-reward"
    proof: ClassVar[str | None] = name
    description: ClassVar[str] = "prompt, chosen and rejected messages, and the margin if every pair has one"
    trainer: ClassVar[str] = "RewardTrainer"
    load: ClassVar[str] = (
        "from datasets import load_dataset\n"
        "from trl import RewardTrainer\n"
        'RewardTrainer("MODEL", train_dataset=load_dataset({path!r}, split={split!r})).train()'
    )

    def prepare(self, run: Run) -> None:
        """Refuse margins that are missing from some pairs or negative."""
        if "margin" in run.options.drop or not run.has("margin"):
            return
        missing = negative = 0
        for table in run.read(None, ["margin"]):
            missing += table["margin"].null_count
            negative += pc.sum(pc.less(table["margin"], 0)).as_py() or 0
        if missing:
            raise ExportError(
                f"{missing} pairs of {run.version} have no margin and others have: all or none is needed; say --drop margin"
            )
        if negative:
            raise ExportError(
                f"{negative} pairs of {run.version} have a negative margin, as pairs relabelled with their lower score have: "
                f"the trainer would learn to prefer the rejected side; say --drop margin"
            )

    def reads(self, run: Run) -> list[str]:
        """The margin besides."""
        margin = ["margin"] if "margin" not in run.options.drop and run.has("margin") else []
        return super().reads(run) + margin

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """One row a pair."""
        table = self.asked(self.without_identical(table, run), run)
        if "margin" in table.column_names:
            table = table.set_column(table.column_names.index("margin"), "margin", shortest(table["margin"]))
        return table.select([name for name in schemas.REWARD if name in table.column_names])

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.REWARD, ["prompt", "chosen", "rejected", "pair_id"])
