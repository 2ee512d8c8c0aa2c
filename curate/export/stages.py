"""Pairs for TRL's DPOTrainer, one file a stage of a curriculum."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ExportError
from curate.export.format import Run
from curate.export.trl_dpo import TrlDpo

LAST = 1000  # more stages than `order` makes


class Stages(TrlDpo):
    """The rows of trl-dpo, those of every stage in a file of their own: train_stage_0, train_stage_1, ...

    Train on them in order. In Curry-DPO each stage's reference is the model of the stage before, in MPO the second stage is
    the prompts of its file, for a method that generates.
    """

    name: ClassVar[str] = "stages"
    description: ClassVar[str] = "prompt, chosen and rejected messages: one file for every stage, in order"
    trainer: ClassVar[str] = "DPOTrainer, stage by stage"
    carries: ClassVar[frozenset[str]] = frozenset({"goal", "stage"})
    load: ClassVar[str] = (
        "from datasets import load_dataset\n"
        "stages = load_dataset({path!r})\n"
        "print(list(stages))  # DPOTrainer on each in order, from the model of the one before; first {split!r}"
    )

    def prepare(self, run: Run) -> None:
        """Refuse a version without stages, or with unusual ones."""
        if "stage" in run.options.drop or not run.has("stage"):
            raise ExportError(
                f"stages needs the column stage, and {run.version} has none: add `order` to the recipe, or export as trl-dpo"
            )
        found = self._stages(run, None)
        if min(found) < 0 or max(found) > LAST:
            raise ExportError(f"{run.version} has stages {min(found)} to {max(found)}; 0 to {LAST} make files")
        for table in run.read(None, ["stage", "pair_id"]):
            run.leave_out("unstaged", np.asarray(table["stage"].is_null()), table["pair_id"])

    def _stages(self, run: Run, split: str | None) -> list[int]:
        """The stages of a split, or of all, ascending."""
        columns = [table["stage"] for table in run.read(split, ["stage"])]
        return sorted({stage for column in columns for stage in pc.unique(column.drop_null()).to_pylist()})

    def parts(self, run: Run) -> list[str]:
        """A file for each stage of each split; numbers are padded so that names sort as they train."""
        width = len(str(max(self._stages(run, None))))
        return [f"{split}_stage_{stage:0{width}}" for split in run.splits() for stage in self._stages(run, split)]

    def read(self, run: Run, part: str) -> Iterator[pa.Table]:
        """The pairs of one stage of one split."""
        split, _, stage = part.rpartition("_stage_")
        for table in run.read(split, self.reads(run)):
            of_stage = table.filter(pc.fill_null(pc.equal(table["stage"], int(stage)), False))
            yield self.rows(of_stage, run) if of_stage.num_rows else of_stage

    def reads(self, run: Run) -> list[str]:
        """The stage besides."""
        return [*super().reads(run), "stage"]
