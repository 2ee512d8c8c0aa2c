"""Pairs with win probabilities, as SPPO's trainer reads them."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate import tables
from curate.errors import ExportError, UsageError
from curate.export import messages, schemas, series
from curate.export.format import Run, TrlFormat, shortest
from curate.export.soft_dpo import labelled

ASPECT = "win"  # what `prefer` calls the mean win probability of a response


class Sppo(TrlFormat):
    """Whole conversations as chosen and rejected, and three probabilities: the released trainer's columns.

    `chosen_probs` is the pair's `label_prob`, the other two the scores `win` of either side, 0.5 against itself among them or
    not as `prefer` was told. The test file holds what the recipe's `split` put there (the released code samples its test rows
    from the training rows). The trainer applies the chat template to each side and cuts the prompt's part off.

    Source: Wu et al., "Self-Play Preference Optimization for Language Model Alignment", 2024, arXiv:2405.00675, released code.
    """

    name: ClassVar[str] = "sppo"
    description: ClassVar[str] = "chosen and rejected conversations, chosen_probs, chosen_probs_win and chosen_probs_lose"
    trainer: ClassVar[str] = "SPPOTrainer"
    tested: ClassVar[str] = "the released code, read not run"
    carries: ClassVar[frozenset[str]] = frozenset({"goal", "label_prob"})
    load: ClassVar[str] = "from datasets import load_dataset\nrows = load_dataset({path!r}, split={split!r})\nprint(rows[0])"

    def prepare(self, run: Run) -> None:
        """Refuse a version without the probabilities or with tools."""
        if run.has("tools"):
            raise ExportError(
                f"sppo cannot carry the tools of {run.version}; export as soft-dpo, or drop such rows in the recipe"
            )
        if not run.has("label_prob"):
            raise ExportError(
                f"sppo needs label_prob, and {run.version} has none: add `prefer` after `pair`, with `by` the score that the win "
                f"probabilities are made of"
            )
        self._wins(run)

    def _wins(self, run: Run) -> tuple[str, str | None]:
        """The series of mean win probabilities."""
        if run.options.by is not None:
            return series.meant(run, run.options.by, "chosen_scores")
        there = series.known(run, "chosen_scores")
        wins = [one for one in there if one[1] == ASPECT]
        if len(wins) != 1:
            raise UsageError(
                f"sppo needs mean win probabilities: {run.version} has {len(wins)} scores called {ASPECT}, say --by RATER:ASPECT "
                f"or add `prefer` to the recipe (scores: {series.named(there)})"
            )
        return wins[0]

    def reads(self, run: Run) -> list[str]:
        """The probabilities besides."""
        return [*super().reads(run), "label_prob", "chosen_scores", "rejected_scores"]

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """One row a pair that has all three probabilities."""
        rater, aspect = self._wins(run)
        for side in ("chosen", "rejected"):
            win = tables.score_of(table, rater, aspect, f"{side}_scores")
            self._check(table, win, side)
            table = table.append_column(f"{side}_win", pa.chunked_array([pa.array(win, mask=np.isnan(win))]))
        several = np.logical_or(*(messages.lengths(table[side]) > 1 for side in ("chosen", "rejected")))
        run.leave_out("not_plain", several, table["pair_id"])  # the trainer would take all but the last for the prompt
        table = table.filter(pa.array(~several))
        table = labelled(table, run, table["label_prob"], table["chosen_win"], table["rejected_win"])
        table = self.asked(self.without_identical(table, run), run)
        sides = {side: tables.concat_lists(table["prompt"], table[side]) for side in ("chosen", "rejected")}
        return pa.table(
            sides
            | {
                "chosen_probs": shortest(table["label_prob"]),
                "chosen_probs_win": shortest(table["chosen_win"]),
                "chosen_probs_lose": shortest(table["rejected_win"]),
                "pair_id": table["pair_id"],
            }
        )

    def _check(self, table: pa.Table, win: np.ndarray, side: str) -> None:
        """ExportError for a win probability that is none."""
        wrong = (win < 0) | (win > 1)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ExportError(
                f"pair {table['pair_id'][at]}: the {side} side's score {win[at]:g} is no probability; say --by one that is"
            )

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.SPPO, list(schemas.SPPO))
