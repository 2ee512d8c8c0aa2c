"""Texts that a model makes from other texts: what comes of a request, and rows beside the originals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curate import tables
from curate.generate.messages import said
from curate.generate.sampled import error_text, with_errors
from curate.models.asking import Reply
from curate.tables import Grain

CARRIED = [c.name for c in tables.PROMPT_COLUMNS if c.name not in ("row", "scores", "evidence", "flags")]


@dataclass
class Draft:
    """One new text in the making."""

    row: int
    text: str
    """What it is made from."""
    drawn: dict[str, Any] = field(default_factory=dict)
    """What was drawn for it."""
    done: str | None = None
    error: str | None = None

    def hear(self, reply: Reply, what: str) -> None:
        """Take a reply as the new text. what: how an error calls it."""
        self.done, self.error = said(reply), error_text(reply)
        if self.error is None and reply.finish_reason == "length":
            self.error = f"truncated: the {what} was cut off at max_tokens"


@dataclass
class Beside:
    """Originals and what was made from them, in order."""

    places: list[int] = field(default_factory=list)
    """The row of the table that each stands for or was made from."""
    original: list[bool] = field(default_factory=list)
    own: list[Mapping[str, Any]] = field(default_factory=list)
    """The columns in which what was made may differ from its original."""
    errors: list[tuple[int, str]] = field(default_factory=list)
    """What came to nothing, at the original."""

    def add(self, place: int, own: Mapping[str, Any], *, original: bool = False) -> None:
        """One row more."""
        self.places.append(place)
        self.original.append(original)
        self.own.append(own)

    def failed(self, errors: Sequence[str]) -> None:
        """Keep errors with the row that is added next."""
        self.errors += [(len(self.places), error) for error in errors]

    def rows(self, table: pa.Table, grain: Grain, own: Sequence[str], by: str, aspect: str) -> pa.Table:
        """The whole as a table without `row`. own: names of the columns."""
        made, at = tables.from_rows(self.own, grain), pa.array(self.places, pa.int64())
        columns: dict[str, Any] = {name: table[name].take(at) for name in CARRIED if name not in own}
        columns |= {name: made[name] for name in own}
        # what was said of the original was not said of what was made from it
        whose = pa.array(self.places, pa.int64(), mask=~np.array(self.original, dtype=bool))
        columns["evidence"] = table["evidence"].take(whose)
        columns["scores"] = with_errors(table["scores"].take(whose), by, aspect, self.errors)
        return tables.conform(pa.table(columns), grain).drop_columns(["row"])
