"""Rows of a version read back as they were before they were published."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate import tables
from curate.errors import DataError
from curate.recipe import read_recipe
from curate.run import run_recipe
from curate.store.kept_rows import kept_parts
from curate.store.versions import Version

ROWS = """\
{"prompt": "one", "good": "yes", "bad": "no"}
{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "two"}], "good": [{"role": "assistant", \
"content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}], "bad": "d"}
{"prompt": "three", "good": "long enough", "bad": ""}
"""


def published(
    folder: Path, rows: str = ROWS, of: str = "rows: pairs, columns: {prompt: prompt, chosen: good, rejected: bad}"
) -> Version:
    (folder / "rows.jsonl").write_text(rows)
    (folder / "recipe.yaml").write_text(f"name: d\nsource: {{path: rows.jsonl, {of}}}\nsteps: []\n")
    return run_recipe(read_recipe(folder / "recipe.yaml"), folder / "store").version


def read(version: Version, *columns: str, grain: Any = "pairs") -> list[dict[str, Any]]:
    parts = [part.table for part in kept_parts(version, grain, columns)]
    assert all(table.schema.field(name).type == tables.SCHEMAS[grain].field(name).type for table in parts for name in columns)
    return sorted(pa.concat_tables(parts).to_pylist(), key=str)


def test_sides_are_texts_and_longer_ones_turns(tmp_path: Path) -> None:
    found = {row["chosen"]: row for row in read(published(tmp_path), "chosen", "chosen_turns", "rejected", "rejected_turns")}
    assert found["yes"] == {"chosen": "yes", "chosen_turns": None, "rejected": "no", "rejected_turns": None}
    assert [message["content"] for message in found["c"]["chosen_turns"]] == ["a", "b", "c"]
    assert (found["c"]["rejected"], found["c"]["rejected_turns"]) == ("d", None)


def test_columns_that_the_version_left_out_are_null(tmp_path: Path) -> None:
    assert read(published(tmp_path), "tools", "images") == [{"tools": None, "images": None}] * 3


def test_prompts_are_those_of_the_versions_rows(tmp_path: Path) -> None:
    found = read(published(tmp_path), "prompt", grain="prompts")
    assert sorted(row["prompt"][-1]["content"] for row in found) == ["one", "three", "two"]
    assert {len(row["prompt"]) for row in found} == {1, 2}
    assert found[0]["prompt"][0].keys() == {"role", "content", "name", "tool_calls", "tool_call_id"}


def test_rows_of_a_grain_that_the_version_has_not_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="d@v1 holds no responses: its rows are pairs"):
        read(published(tmp_path), "response", grain="responses")
