"""Write small sources and read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from curate.source import Rejects, Sources, grain_of, read
from curate.tables import empty


class Outcome(NamedTuple):
    """What reading a source gave."""

    rows: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    table: pa.Table
    reasons: dict[str, int]


Reading = Callable[..., Outcome]


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    """Read a source given as a recipe writes it, against a base folder (default: the test's own)."""

    def run(source: Any, base: Path = tmp_path, store_root: Path | None = None) -> Outcome:
        sources = TypeAdapter(Sources).validate_python(source)
        path = tmp_path / "out" / "rejects.jsonl"
        with Rejects(path) as rejects:
            tables = list(read(sources, base, rejects, tmp_path / "scratch", store_root))
        table = pa.concat_tables(tables) if tables else empty(grain_of(sources))
        listed = [json.loads(line) for line in path.read_text().splitlines()]
        return Outcome(table.to_pylist(), listed, table, rejects.reasons)

    return run


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    """Write rows as a JSONL file and return its name."""

    def write(*rows: Any, name: str = "rows.jsonl") -> str:
        (tmp_path / name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return name

    return write
