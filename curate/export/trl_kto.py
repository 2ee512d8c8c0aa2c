"""Single responses with a label for TRL's KTOTrainer."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.errors import ExportError, UsageError
from curate.export import schemas, series
from curate.export.format import Run, TrlFormat, first_of_each, side_keys

SIDES = ("chosen", "rejected")


class TrlKto(TrlFormat):
    """Unpaired preference: every response once, labelled by an absolute score.

    The order of a pair says which side is better, not that one is good and the other bad, so a threshold is needed. It
    says nothing of how well a response meets a goal, so goals cannot be carried.
    """

    name: ClassVar[str] = "trl-kto"
    proof: ClassVar[str | None] = name
    description: ClassVar[str] = "prompt and completion messages with a label: whether its score reaches --threshold"
    trainer: ClassVar[str] = "KTOTrainer"
    tested: ClassVar[str] = "trl>=1.16,<1.17"  # 1.0.0 raised TypeError on conversational rows
    carries: ClassVar[frozenset[str]] = frozenset()
    load: ClassVar[str] = (
        "from datasets import load_dataset\n"
        "from trl import KTOTrainer\n"
        'KTOTrainer("MODEL", train_dataset=load_dataset({path!r}, split={split!r})).train()'
    )

    def prepare(self, run: Run) -> None:
        """Refuse to label without a score and a threshold, or with a score that is not there or ambiguous."""
        if run.options.by is None or run.options.threshold is None:
            there = series.named(series.known(run, "chosen_scores"))
            raise UsageError(
                f"trl-kto needs --by RATER[:ASPECT] and --threshold X: a score from which on a response is good (scores: {there})"
            )
        series.meant(run, run.options.by, "chosen_scores")

    def reads(self, run: Run) -> list[str]:
        """The scores of both sides besides."""
        return [*super().reads(run), "chosen_scores", "rejected_scores"]

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """One row a response that was not written before, chosen before rejected."""
        table = self.asked(table, run)
        sides = [self._side(table, side, run) for side in SIDES]
        order = np.arange(2 * table.num_rows).reshape(2, -1).T.ravel()
        both = pa.concat_tables(sides).take(pa.array(order))
        scored = pc.is_valid(both["label"])
        run.leave_out("no_score", ~scored.to_numpy(), both["response_id"])
        both = both.filter(scored)
        labels = both["label"].to_pylist()
        fresh = pa.array(first_of_each(both["key"].to_pylist(), run, labels))
        both = both.filter(fresh).drop_columns("key")
        good = pc.sum(both["label"]).as_py() or 0
        run.counts["label_true"] += good
        run.counts["label_false"] += both.num_rows - good
        return both

    def _side(self, table: pa.Table, side: str, run: Run) -> pa.Table:
        rater, aspect = tables.split_rater(run.options.by or "")
        scores = tables.score_of(table, rater, aspect, f"{side}_scores")
        # scores are float32: the threshold 7.1 must be reached by the score 7.1
        label = pa.array(scores >= np.float32(run.options.threshold or 0.0), mask=np.isnan(scores))
        columns = {"prompt": table["prompt"], "completion": table[side], "label": label}
        if "tools" in table.column_names:
            columns["tools"] = table["tools"]
        return pa.table(columns | {"response_id": table[f"{side}_id"], "key": pa.array(side_keys(table, side), pa.string())})

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.KTO, ["prompt", "completion", "label"])

    def finish(self, run: Run) -> None:
        """Refuse labels that are all the same."""
        good, bad = run.counts["label_true"], run.counts["label_false"]
        if (good or bad) and not (good and bad):
            same = "true" if good else "false"
            raise ExportError(
                f"all {good + bad} labels are {same} with --threshold {run.options.threshold:g}: nothing to tell apart; choose a "
                f"threshold between the scores (`curate report` plots them)"
            )
