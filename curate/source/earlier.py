"""Read the rows of an earlier version back into tables."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.errors import DataError
from curate.source.messages import Message
from curate.source.spec import Source
from curate.tables import MESSAGE, SCHEMAS, Grain, conform

MADE_ANEW = ("row", "flags")  # a row read again gets a new ordinal and a new chance


def read_version(folder: Path, source: Source, grain: Grain, rows: int, numbered: bool = False) -> Iterator[pa.Table]:
    """Tables of at most `rows` rows, in the version's own order; flags are not carried over.

    numbered: keep the numbers that the rows have in the version.
    """
    stored: Grain = "responses" if source.table == "responses" else "pairs"
    for file in _files(folder, source, stored):
        with pa.memory_map(str(file)) as mapped:
            reader = pa.ipc.open_file(mapped)
            for place in range(reader.num_record_batches):
                batch = reader.get_batch(place)
                for start in range(0, batch.num_rows, rows):
                    table = pa.Table.from_batches([batch.slice(start, rows)])
                    found = conform(_columns(table, stored), stored)
                    yield found.set_column(found.schema.get_field_index("row"), "row", table["row"]) if numbered else found


def _files(folder: Path, source: Source, stored: Grain) -> list[Path]:
    named = [entry["path"] for entry in json.loads((folder / "manifest.json").read_text())["files"]]
    prefix = f"dropped/{stored}-" if source.table == "dropped" else f"{source.table}/"
    found = [
        folder / path for path in named if path.startswith(prefix) and path.endswith(".arrow") and ".." not in Path(path).parts
    ]
    if not found:
        there = sorted({path.split("/")[0] for path in named if "/" in path})
        raise DataError(f"{source.version} has no table {source.table!r} of {stored}; it has {', '.join(there)}")
    return found


def _columns(table: pa.Table, stored: Grain) -> pa.Table:
    schema = SCHEMAS[stored]
    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name in MADE_ANEW or name not in schema.names:
            continue
        column = table[name]
        if name == "prompt" or name.endswith("turns"):
            columns[name] = pa.array([_messages(value) for value in column.to_pylist()], schema.field(name).type)
        elif name in ("chosen", "rejected") and pa.types.is_list(column.type):
            talks = [_messages(value) for value in column.to_pylist()]
            columns[name] = pa.array([_last(talk) for talk in talks], pa.string())
            columns[f"{name}_turns"] = pa.array([_turns(talk) for talk in talks], pa.list_(MESSAGE))
        else:
            columns[name] = column.cast(schema.field(name).type)
    return pa.table(columns)


def _messages(value: list[Message] | None) -> list[Message] | None:
    return None if value is None else [{k: v for k, v in message.items() if v is not None} for message in value]


def _last(talk: list[Message] | None) -> str | None:
    return talk[-1].get("content", "") if talk else None


def _turns(talk: list[Message] | None) -> list[Message] | None:
    return talk if talk and (len(talk) > 1 or set(talk[0]) != {"role", "content"}) else None
