import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from curate.errors import UsageError
from curate.export import FORMATS, export
from curate.export.check import check
from curate.export.schemas import export_schemas
from curate.store.versions import Version
from tests.export.conftest import NEEDED, MakeVersion, answers, pair


@pytest.fixture
def without_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def absent(name: str, package: str | None = None) -> Any:
        return None if name == "trl" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", absent)


def spoil(folder: Path, **columns: Any) -> None:
    """Change the first row of an export."""
    first, *others = (folder / "train.jsonl").read_text().splitlines()
    (folder / "train.jsonl").write_text("\n".join([json.dumps(json.loads(first) | columns), *others]) + "\n")


@pytest.mark.usefixtures("without_trl")
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_agrees_with_its_schema(fitting: Callable[[str], Version], tmp_path: Path, name: str) -> None:
    report = check(export(fitting(name), name, tmp_path / "out", **NEEDED.get(name, {})).path)
    assert report.problems == []
    assert bool(report.notes) == FORMATS[name].typed


@pytest.mark.usefixtures("without_trl")
def test_what_no_trainer_reads_is_loaded_all_the_same(listed: MakeVersion, tmp_path: Path) -> None:
    done = export(listed(answers(("A?", "yes", 9), ("A?", "12", 1))), "scored-list", tmp_path / "out")
    report = check(done.path)
    assert (report.problems, report.trl) == ([], None) and "TRL has no trainer for scored-list" in report.notes[0]


@pytest.mark.usefixtures("without_trl")
def test_texts_that_datasets_takes_for_times_are_a_problem(listed: MakeVersion, tmp_path: Path) -> None:
    """Lists of text that all look like dates: read the lines yourself, or wait for a loader that trusts the card."""
    done = export(listed(answers(("A?", "2024-01-01", 9), ("A?", "2024-01-02", 1))), "scored-list", tmp_path / "out")
    assert "row 1 is not the same once loaded" in check(done.path).problems[0]


@pytest.mark.usefixtures("without_trl")
def test_without_trl_the_check_says_what_to_install(version: MakeVersion, tmp_path: Path) -> None:
    report = check(export(version([pair("A?", "good", "bad")]), "trl-dpo", tmp_path / "out").path)
    assert report.trl is None
    assert "pip install 'curate[export-check]'" in report.notes[0]


@pytest.mark.usefixtures("without_trl")
@pytest.mark.parametrize("label", [1, "true", None])
def test_a_label_that_is_no_bool_is_a_problem(version: MakeVersion, tmp_path: Path, label: object) -> None:
    done = export(version([pair("A?", "good", "bad")]), "trl-kto", tmp_path / "out", by="rm", threshold=5)
    spoil(done.path, label=label)
    (problem,) = check(done.path).problems
    assert problem.startswith("train.jsonl, row 1: label: ")


@pytest.mark.usefixtures("without_trl")
def test_a_missing_row_is_a_problem(version: MakeVersion, tmp_path: Path) -> None:
    done = export(version([pair("A?", "good", "bad"), pair("B?", "good", "bad")]), "trl-dpo", tmp_path / "out")
    lines = (done.path / "train.jsonl").read_text().splitlines()
    (done.path / "train.jsonl").write_text(lines[0] + "\n")
    assert check(done.path).problems == ["train.jsonl holds 1 rows, export.json says 2"]


@pytest.mark.usefixtures("without_trl")
def test_many_problems_are_counted(version: MakeVersion, tmp_path: Path) -> None:
    done = export(version([pair(f"{i}?", "good", "bad") for i in range(9)]), "trl-dpo", tmp_path / "out")
    text = (done.path / "train.jsonl").read_text()
    (done.path / "train.jsonl").write_text(text.replace('"role": "user"', '"role": 1'))
    problems = check(done.path).problems
    assert len(problems) == 6
    assert problems[-1] == "train.jsonl: 4 more rows do not agree with the schema"


def test_a_folder_that_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no export that can be checked"):
        check(tmp_path)


def test_there_is_a_valid_schema_for_every_format() -> None:
    schemas = export_schemas()
    assert set(schemas) == {f"export-{name}.json" for name in FORMATS}
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
