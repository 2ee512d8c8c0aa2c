"""Pairs with a win rate and its log-odds as a regression target, for iREPO."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate import tables
from curate.errors import ExportError
from curate.export import schemas, series
from curate.export.format import Run, TrlFormat, shortest
from curate.export.soft_dpo import labelled

MEASURE = "logit"  # what `prefer` calls the log-odds
OPERATOR = "prefer"
CLOSE = 1e-6
"""Differences below it are rounding."""


class Regression(TrlFormat):
    """Preference with `p_win` and `target`: the loss is (implicit reward of chosen - that of rejected - target) squared.

    `p_win` is the pair's `label_prob`; `target` the evidence `logit` of the last `prefer` step, or of the step that --by names.
    With `smoothing: 0` it is log p/(1 - p) of the share of h votes, held 1/(2h) away from 0 and 1. A target below 0 says that
    the rejected side won; nothing is exchanged, since the loss does not ask which side is called chosen.

    Source: Le et al., "iREPO: implicit Reward Pairwise Difference based Empirical Preference Optimization", 2024,
    arXiv:2405.15230.
    """

    name: ClassVar[str] = "regression"
    proof: ClassVar[str | None] = "trl-dpo"
    description: ClassVar[str] = "prompt, chosen and rejected messages, p_win and the target, its log-odds"
    trainer: ClassVar[str] = "a regression loss on the difference of rewards"
    carries: ClassVar[frozenset[str]] = frozenset({"goal", "label_prob"})
    load: ClassVar[str] = (
        "from datasets import load_dataset\n"
        "rows = load_dataset({path!r}, split={split!r})\n"
        'targets = rows["target"]  # of pair i: (h[i] - targets[i]) ** 2'
    )

    def prepare(self, run: Run) -> None:
        """Refuse a version without votes turned into probabilities."""
        if not run.has("label_prob") or self._step(run) is None:
            raise ExportError(
                f"regression needs label_prob and the evidence {MEASURE} of a `prefer` step, and {run.version} lacks them: add "
                f"`prefer: {{by: VOTERS, smoothing: 0}}` to the recipe, or name its step with --by STEP"
            )

    def _step(self, run: Run) -> str | None:
        """Name of the step whose evidence is the target."""
        step = series.last_step(run, OPERATOR)
        return run.options.by or (None if step is None else str(step["name"]))

    def reads(self, run: Run) -> list[str]:
        """The probability and the evidence besides."""
        return [*super().reads(run), "label_prob", "evidence"]

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """One row a pair that has a target."""
        target = tables.value_of(table["evidence"], by=self._step(run), name=MEASURE)
        column = pa.chunked_array([pa.array(target, mask=np.isnan(target))])
        table = table.append_column("target", column)
        table = labelled(table, run, table["label_prob"], table["target"])
        self._agree(table)
        table = self.asked(self.without_identical(table, run), run)
        columns = {name: table[name] for name in schemas.DPO if name in table.column_names}
        return pa.table(columns | {"p_win": shortest(table["label_prob"]), "target": shortest(table["target"])})

    def _agree(self, table: pa.Table) -> None:
        """ExportError if a target and its probability are on different sides: the pair was turned after the votes, or a single
        vote was held half a vote away from both ends, which is the middle."""
        found, probability = table["target"].to_numpy(), table["label_prob"].to_numpy()
        silent = (np.abs(found) < CLOSE) & (np.abs(probability - 0.5) > CLOSE)
        if silent.any():
            at = int(np.argmax(silent))
            raise ExportError(
                f"pair {table['pair_id'][at]}: label_prob {probability[at]:g} with a target of 0, all that a single vote comes "
                f"to half a vote away from 0 and 1: let more voters speak, or give `prefer` a smoothing above 0"
            )
        apart = found * (probability - 0.5) < -CLOSE
        if apart.any():
            at = int(np.argmax(apart))
            raise ExportError(
                f"pair {table['pair_id'][at]}: label_prob {probability[at]:g} and target {found[at]:g} are on different sides "
                f"(as after `flip`): put `prefer` after the step that turns pairs"
            )

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.REGRESSION, ["prompt", "chosen", "rejected", "p_win", "target", "pair_id"])
