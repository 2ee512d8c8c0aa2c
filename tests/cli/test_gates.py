"""Gates on the command line."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Curate, write_project

GATES = 'gates: {rows: ">= 1000", longer_chosen_share: "between 0 and 1"}\n'


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    """A recipe with a gate that is closed."""
    recipe = write_project(tmp_path)
    recipe.write_text(recipe.read_text() + GATES)
    return recipe


def test_a_closed_gate_is_told_and_exits_with_1(curate: Curate, gated: Path, tmp_path: Path) -> None:
    told = curate("run", gated, "--store", tmp_path / "store", "--inline")
    assert told.code == 1 and told.out == ""
    assert "error: 1 of 2 gates is closed: nothing was published\n  metric " in told.err
    assert "  closed: 9" in told.err and "--publish-anyway" in told.err
    assert curate("versions", "--store", tmp_path / "store").out == "no versions yet; `curate run RECIPE` publishes one\n"


def test_a_closed_gate_is_json_for_programs(curate: Curate, gated: Path, tmp_path: Path) -> None:
    told = curate("run", gated, "--store", tmp_path / "store", "--inline", "--json")
    assert told.code == 1
    answer = json.loads(told.out)
    assert (answer["published"], answer["version"]) == (False, None)
    assert [(gate["metric"], gate["passed"]) for gate in answer["gates"]] == [("rows", False), ("longer_chosen_share", True)]
    assert answer["gates"][0]["value"] == answer["metrics"]["rows"]


def test_publishing_anyway_is_said_and_shown(curate: Curate, gated: Path, tmp_path: Path) -> None:
    told = curate("run", gated, "--store", tmp_path / "store", "--inline", "--publish-anyway")
    assert told.code == 0
    assert "published colours@v1" in told.out and "2 gates, 1 of them closed, published anyway" in told.out
    shown = curate("show", "colours", "--metrics", "--store", tmp_path / "store")
    assert "published although a gate is closed" in shown.out and "closed: 9" in shown.out
    assert "Cohen's d of the sides' characters" in shown.out
    answer = json.loads(curate("show", "colours", "--metrics", "--json", "--store", tmp_path / "store").out)
    assert answer["published_anyway"] is True and answer["metrics"]["rows"] == answer["gates"][0]["value"]


def test_a_preview_says_which_gates_would_close(curate: Curate, gated: Path, tmp_path: Path) -> None:
    told = curate("run", gated, "--store", tmp_path / "store", "--inline", "--limit", 5)
    assert told.code == 0 and "2 gates, 1 of them would be closed" in told.out


def test_a_wrong_gate_is_found_before_anything_runs(curate: Curate, gated: Path, tmp_path: Path) -> None:
    gated.write_text(gated.read_text().replace("rows: ", "rws: "))
    told = curate("plan", gated, "--store", tmp_path / "store")
    assert told.code == 2 and "gates, rws: there is no such metric; did you mean rows?" in told.err
