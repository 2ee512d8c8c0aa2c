"""Recipes of the gallery, run from the command line, and what they published."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from curate.cli.main import app
from curate.store.versions import Version, Versions, damage, data_files

RECIPES = Path(__file__).resolve().parents[2] / "flows" / "recipes"
SHARD_MB = "16"  # several shards, so that every core has one


def table_of(version: Version, folder: str) -> pl.DataFrame:
    """The rows of one folder of a version, such as pairs or dropped/responses."""
    tables = [pa.ipc.open_file(path).read_all() for path in data_files(version, folder)]
    frame = pl.from_arrow(pa.concat_tables(tables))
    assert isinstance(frame, pl.DataFrame)
    return frame


def text_of(side: str) -> pl.Expr:
    """The text of a side of one message."""
    return pl.col(side).list.first().struct.field("content").alias(side)


def one_space(column: str) -> pl.Expr:
    """A text with every run of whitespace as one space."""
    return pl.col(column).str.replace_all(r"[\s\x1c-\x1f]+", " ").str.strip_chars(" ")


def dropped(version: Version, grain: str, by: str) -> dict[str, int]:
    """Rows of a version's dropped table that a step dropped, by reason."""
    rows = table_of(version, f"dropped/{grain}").filter(dropped_by=by)
    return dict(rows.group_by("reason").len().rows())


def steps_of(version: Version) -> dict[str, dict[str, Any]]:
    """The manifest's steps by name."""
    return {step["name"]: step for step in version.manifest["steps"]}


def check_card(version: Version) -> None:
    """The card tells the manifest's numbers, and the files hold them."""
    card = (version.path / "README.md").read_text(encoding="utf-8")
    funnel = card.split("## From source to version")[1].split("\n## ")[0]
    told = {cells[0].strip("`"): cells for line in funnel.splitlines() if (cells := _cells(line))}
    for step in version.manifest["steps"]:
        _, grain, rows_in, kept, _, reasons, made = told[step["name"]]
        assert (grain, _number(rows_in), _number(kept)) == (step["grain"], step["rows_in"], step["kept"])
        assert {reason: _number(count) for count, reason in re.findall(r"([\d,]+) `(\w+)`", reasons)} == step["dropped"]
        assert (_number(made.split()[0]) if made else None) == step["made"]
    splits = version.manifest["splits"]
    for split, rows in splits.items():
        assert f"`{split}` {rows:,}" in card
        assert table_of(version, f"{version.manifest['grain']}/{split}").height == rows
    assert f": {sum(splits.values()):,} {version.manifest['grain']} to " in card
    rejects = version.manifest["rejects"]
    assert ("## Rejected rows" in card) == bool(rejects["rejected"])
    for reason, rows in rejects["reasons"].items():
        assert f"| `{reason}` | {rows:,} |" in card


def _cells(line: str) -> list[str]:
    cells = [cell.strip() for cell in line.strip("|").split(" | ")]
    return cells if cells[0].startswith("`") else []


def _number(told: str) -> int:
    return int(told.replace(",", ""))


def check_sound(version: Version) -> None:
    """Files as published, every step balanced, no prompt in two splits."""
    assert damage(version) == []
    for step in version.manifest["steps"]:
        assert step["kept"] + sum(step["dropped"].values()) == step["rows_in"], step["name"]
    pairs = table_of(version, "pairs")
    assert pairs.group_by("prompt_id").agg(pl.col("split").n_unique())["split"].max() == 1
    assert pairs["split"].is_null().sum() == 0
    check_card(version)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Version]]:
    """Runs a recipe of the gallery in a store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_SHARD_MB", SHARD_MB)

        def published(name: str, *options: str, data: Path | None = None) -> Version:
            if data is not None:
                patch.setenv("CURATE_TEST_DATA", os.fspath(data))
            store = tmp_path_factory.mktemp("store")
            app(["run", os.fspath(RECIPES / f"{name}.yaml"), "--store", os.fspath(store), *options], standalone_mode=False)
            (dataset,) = Versions(store).names()
            version = Versions(store).latest(dataset)
            assert version is not None
            return version

        yield published
