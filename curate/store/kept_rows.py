"""Rows that a version kept, as tables like those they were published from: what later runs compare theirs with."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.errors import DataError
from curate.store import arrow
from curate.store.versions import Version, data_files
from curate.tables import Grain


class Part(NamedTuple):
    """One file of kept rows."""

    sha256: str
    """Of the file: what else tells its rows from others."""
    table: pa.Table


def kept_parts(version: Version, grain: Grain, columns: Sequence[str]) -> Iterator[Part]:
    """The kept rows of a grain, file by file; of prompts those of the version's own rows, whatever these are.

    columns: those of the grain that are wanted; what the version does not hold is null. Raises DataError if it has no such rows.
    """
    folder: Grain = version.manifest["grain"] if grain == "prompts" else grain
    files = data_files(version, folder)
    if not files:
        raise DataError(f"{version} holds no {grain}: its rows are {version.manifest['grain']}; compare their prompts instead")
    for file in files:
        yield Part(arrow.sha256_of(file), _as_stored(arrow.read(file), grain, columns))


def _as_stored(published: pa.Table, grain: Grain, columns: Sequence[str]) -> pa.Table:
    found: dict[str, pa.Array] = {}
    for name in columns:
        kind = tables.SCHEMAS[grain].field(name).type
        side = name.removesuffix("_turns")
        if side in ("chosen", "rejected") and side in published.column_names:
            told = _messages(published[side])
            found[name] = _beyond_one(told) if name.endswith("_turns") else _last_contents(told)
        elif name not in published.column_names:
            found[name] = pa.nulls(published.num_rows, kind)
        elif kind == pa.list_(tables.MESSAGE):
            found[name] = _messages(published[name])
        else:
            found[name] = tables.flat(published[name]).cast(kind)
    return pa.table(found)


def _messages(column: pa.ChunkedArray) -> pa.ListArray:
    """Messages with all their fields; a version leaves out those that none of its messages uses."""
    lists = tables.flat(column)
    entries = lists.flatten()
    fields = {field.name: pc.struct_field(entries, field.name) for field in lists.type.value_type}
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    whole = tables.structs(tables.MESSAGE, len(entries), **fields)
    return pa.ListArray.from_arrays(offsets, whole, mask=lists.is_null() if lists.null_count else None)


def _last_contents(lists: pa.ListArray) -> pa.Array:
    """The content of each last message; null where there is none."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    last = pa.array(np.cumsum(counts) - 1, mask=counts == 0)
    return pc.struct_field(lists.flatten(), "content").take(last)


def _beyond_one(lists: pa.ListArray) -> pa.ListArray:
    """The messages where there is more than one, else null: the one's text is all there is to compare."""
    return pc.if_else(pc.greater(pc.list_value_length(lists), 1), lists, pa.scalar(None, lists.type))
