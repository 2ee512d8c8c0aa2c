"""Scores as judges give them, and how they are appended to a table's."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate import tables


class Mark(NamedTuple):
    """One score of one row."""

    row: int
    rater: str
    aspect: str
    value: float | None
    """None where there is an error, or nothing to say."""
    rationale: str | None
    round: int
    error: str | None
    position: int | None = None
    """Where the text stood among those shown, from 0; None where it was shown alone."""


def appended(lists: Any, marks: Iterable[Mark]) -> pa.Array:
    """A column of scores with the marks after what each row has, those of a row in their order."""
    ordered = sorted(marks, key=lambda mark: mark.row)
    columns = {name: [getattr(mark, name) for mark in ordered] for name in Mark._fields}
    rows = np.array(columns.pop("row"), dtype=np.int64)
    return tables.append(lists, tables.structs(tables.SCORE, len(rows), **columns), rows)
