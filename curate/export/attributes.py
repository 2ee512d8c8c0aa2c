"""Responses with a column for each attribute they are rated by, for reward models with several heads."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate import tables
from curate.errors import UsageError
from curate.export import listing, schemas, series
from curate.export.format import Run, shortest
from curate.export.list_format import ResponseFormat


class Attributes(ResponseFormat):
    """One row a response: `prompt`, `completion`, and a number or null for each score (--attribute, else every one).

    Null says that nobody rated it: leave it out of the loss, as a mask. (NeMo-Aligner's rows say -100 there, ArmoRM's NaN.)
    A column is called by its aspect, or rater:aspect where two raters share one. Each response has its own ratings; what a
    pair has, such as a margin or a strength of preference, belongs to neither side and is not here.

    Source: Wang et al., "HelpSteer2: Open-source dataset for training top-performing reward models", 2024, arXiv:2406.08673.
    """

    name: ClassVar[str] = "attributes"
    description: ClassVar[str] = "prompt and completion messages, and a number or null for each attribute"
    trainer: ClassVar[str] = "a regression reward model"
    tested: ClassVar[str] = "datasets>=4.7"

    def prepare(self, run: Run) -> None:
        """Refuse a version without responses, or without the scores that are asked for."""
        super().prepare(run)
        if not self.columns(run):
            raise UsageError(f"{run.version} has no scores: a regression needs some")

    def columns(self, run: Run) -> dict[str, tuple[str, str | None]]:
        """The series of each column."""
        column = listing.score_column(run)
        asked: list[tuple[str, str | None]] = [
            series.meant(run, name, column, "--attribute") for name in run.options.attribute
        ] or list(series.known(run, column))
        names = [aspect or rater for rater, aspect in asked]
        taken = Counter([*names, *schemas.SFT])
        told = [
            name if taken[name] == 1 else f"{rater}:{aspect or ''}" for name, (rater, aspect) in zip(names, asked, strict=True)
        ]
        return dict(zip(told, asked, strict=True))

    def read(self, run: Run, part: str) -> Iterator[pa.Table]:
        """The rated responses of a split."""
        for table in listing.responses(run, part):
            yield self.rated(listing.answered(table, run), run)

    def rated(self, table: pa.Table, run: Run) -> pa.Table:
        """One row a response that has any of the ratings."""
        ratings = {name: tables.score_of(table, *where) for name, where in self.columns(run).items()}
        known = np.any([np.isfinite(values) for values in ratings.values()], axis=0)
        run.leave_out("unscored", ~known, table["response_id"])
        columns = {"prompt": tables.flat(table["prompt"]), "completion": listing.said(table)}
        columns |= {name: table[name] for name in ("tools", "response_id") if name in table.column_names}
        columns |= {
            name: shortest(pa.chunked_array([pa.array(values, mask=~np.isfinite(values))])) for name, values in ratings.items()
        }
        return pa.table(columns).filter(pa.array(known))

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.rated_schema(self)
