"""Exports that a recipe asks for."""

import json
from pathlib import Path

import pytest

from curate.errors import ExportError, UsageError
from curate.export.recipes import write_exports
from curate.relabel.goal import Goal
from tests.export.conftest import MakeVersion, pair

GOAL = Goal(name="goal", by="rm", scale=(1, 10))


def roles(folder: Path) -> list[str]:
    """Who speaks first in the first row."""
    row = json.loads((folder / "train.jsonl").read_text().splitlines()[0])
    return [message["role"] for message in row["prompt"]]


def test_an_export_is_written_again_for_other_options_alone(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad")], [GOAL])
    (folder,) = write_exports(made, [{"to": "trl-dpo"}], tmp_path)
    assert (folder, roles(folder)) == (tmp_path / "exports" / "demo-v1-trl-dpo", ["system", "user"])
    (folder / "train.jsonl").touch()
    before = (folder / "train.jsonl").stat()
    write_exports(made, [{"to": "trl-dpo", "goal": "system"}], tmp_path)  # what it is when nobody says
    assert (folder / "train.jsonl").stat() == before
    write_exports(made, [{"to": "trl-dpo", "goal": "user"}], tmp_path)
    assert roles(folder) == ["user"]


def test_two_exports_of_one_format_stand_side_by_side(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad")], [GOAL])
    first, second = write_exports(made, [{"to": "trl-dpo"}, {"to": "trl-dpo", "goal": "user"}], tmp_path)
    assert (first.name, second.name) == ("demo-v1-trl-dpo", "demo-v1-trl-dpo-2")
    assert (roles(first), roles(second)) == (["system", "user"], ["user"])


def test_a_refused_export_says_that_the_version_is_there_and_what_a_recipe_says(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad", weight=0.5, stage=0, label_prob=0.9)])
    with pytest.raises(ExportError, match=r"^demo@v1 is there, its export is not: .* that is drop: \[label_prob, weight\]$"):
        write_exports(made, [{"to": "stages"}], tmp_path)
    alike = version([pair("A?", "same", "same")], root="b")
    with pytest.raises(ExportError, match=r"or say --skip identical; in the recipe that is skip: \[identical\]$"):
        write_exports(alike, [{"to": "trl-dpo"}], tmp_path / "b")


def test_a_folder_that_is_no_export_is_not_taken_for_one(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad")])
    (tmp_path / "exports" / "demo-v1-trl-dpo").mkdir(parents=True)
    (tmp_path / "exports" / "demo-v1-trl-dpo" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is no export"):
        write_exports(made, [{"to": "trl-dpo"}], tmp_path)
