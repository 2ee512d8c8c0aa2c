"""Read one field of the column `meta`, whose rows are JSON objects or null."""

import json
from typing import Any

import pyarrow as pa


def field_values(metas: pa.ChunkedArray, name: str) -> list[Any]:
    """What each row says there, (N,); None where it says nothing."""
    return [json.loads(meta).get(name) if meta else None for meta in metas.to_pylist()]


def field_names(metas: pa.ChunkedArray, name: str) -> list[str | None]:
    """The same as names of rows: a text as it is, a whole number in digits, None for anything else."""
    return [_as_name(value) for value in field_values(metas, name)]


def _as_name(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None
