"""Everything a version keeps, as Parquet or as JSON lines."""

from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curate.export import schemas
from curate.export.format import EVIDENCE, Format, Run, shortest
from curate.tables import Grain

ANY: tuple[Grain, ...] = ("prompts", "responses", "pairs")


class Parquet(Format):
    """Every column as the version has it."""

    name: ClassVar[str] = "parquet"
    description: ClassVar[str] = "every column, typed and nested; tool calls, tools, goal and meta are JSON text"
    trainer: ClassVar[str] = "any reader of Parquet"
    tested: ClassVar[str] = "pyarrow>=20"
    suffix: ClassVar[Literal["jsonl", "parquet"]] = "parquet"
    grains: ClassVar[tuple[Grain, ...]] = ANY
    carries: ClassVar[frozenset[str]] = frozenset(EVIDENCE)
    typed: ClassVar[bool] = False
    load: ClassVar[str] = "from datasets import load_dataset\nrows = load_dataset({path!r}, split={split!r})\nprint(rows[0])"

    def reads(self, run: Run) -> list[str]:
        """Every column that is not dropped."""
        return [name for name in run.columns().names if name not in run.options.drop]

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """The rows as they are."""
        return table

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.everything_schema(self)


class Jsonl(Parquet):
    """Every column, one JSON object a row."""

    name: ClassVar[str] = "jsonl"
    description: ClassVar[str] = "every column, one nested JSON object a row; tool calls, tools, goal and meta are objects"
    trainer: ClassVar[str] = "any reader of JSON lines"
    tested: ClassVar[str] = "every version"
    suffix: ClassVar[Literal["jsonl", "parquet"]] = "jsonl"
    json_columns: ClassVar[tuple[str, ...]] = schemas.JSON_COLUMNS
    load: ClassVar[str] = (
        "import json\n"
        'lines = open({path!r} + "/" + {split!r} + ".jsonl", encoding="utf-8")\n'
        "rows = [json.loads(line) for line in lines]"
    )

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """The rows with numbers that print as they were given."""
        return pa.table({name: _readable(table[name]) for name in table.column_names})

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.everything_schema(self, parsed=True)


def _readable(column: pa.ChunkedArray) -> Any:
    """The column with its float32 numbers as the float64 that print alike, inside lists too; NaN is null."""
    kind = column.type
    if pa.types.is_float32(kind):
        return _finite(shortest(column))
    if not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return column
    lists = column.combine_chunks()
    entries = lists.flatten()
    names = [field.name for field in kind.value_type]
    fields = [_readable(pa.chunked_array([pc.struct_field(entries, name)])).combine_chunks() for name in names]
    offsets = pc.subtract(lists.offsets, lists.offsets[0])
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(fields, names=names), mask=lists.is_null())


def _finite(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))
