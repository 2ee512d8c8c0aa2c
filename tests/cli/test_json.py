"""--json prints one document for programs, whatever the verb."""

import json
from pathlib import Path
from typing import Any

import pytest

from curate.cli.common import print_json
from tests.cli.conftest import Curate
from tests.cli.test_help import COMMANDS, VERBS

CALLS: dict[str, str] = {
    "recipes": "",
    "doctor": "",
    "lint": "ANSWERS",
    "plan": "RECIPE",
    "run": "RECIPE --set margin.min=3",
    "runs": "",
    "versions": "",
    "show": "colours -n 2",
    "diff": "colours@v1 colours@v2",
    "why": "colours 0",
    "verify": "",
    "gc": "--dry-run",
    "ledger": "",
    "export": "colours --to jsonl --out OUT --check",
    "down": "",
}
SERVED = {"up", "schedule", "schedules"}
"""These need a server: tests/cli/test_serving.py calls them."""


@pytest.fixture
def ask(curate: Curate, read_only: Path, tmp_path: Path) -> Any:
    """What a verb says with --json, read."""

    def call(verb: str, words: str = "") -> Any:
        words = words.replace("RECIPE", str(read_only.parent / "curate.yaml")).replace("OUT", str(tmp_path / "out"))
        words = words.replace("ANSWERS", str(read_only.parent / "answers.jsonl"))
        place = [] if verb in ("recipes", "lint") else ["--store", read_only]
        told = curate(verb, *words.split(), "--json", *place)
        assert told.code == 0, told.err
        return json.loads(told.out)

    return call


def test_every_verb_that_has_it_is_called_here() -> None:
    assert {verb for verb in VERBS if any("--json" in option.opts for option in COMMANDS[verb].params)} == {*CALLS, *SERVED}


@pytest.mark.parametrize("verb", CALLS)
def test_it_is_json(ask: Any, verb: str) -> None:
    assert ask(verb, CALLS[verb]) or verb == "ledger"  # nothing was spent here: an empty list


def test_what_json_cannot_say_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"margin": float("nan"), "rows": (1.5, float("inf"))})
    assert json.loads(capsys.readouterr().out) == {"margin": None, "rows": [1.5, None]}


def test_versions_tell_rows_and_where_they_lie(ask: Any, read_only: Path) -> None:
    first, second = ask("versions")
    assert (first["version"], second["version"]) == ("colours@v1", "colours@v2")
    assert first["grain"] == "pairs" and set(first["splits"]) == {"train", "test"}
    assert Path(first["path"]) == read_only / "datasets" / "colours" / "v0001"


def test_a_plan_tells_what_is_done_and_every_parameter(ask: Any) -> None:
    steps = {step["step"]: step for step in ask("plan", "RECIPE --set margin.min=5")}
    assert steps["pair"]["done"] is True and steps["pair"]["parameters"] == {"by": "rm", "how": "all_gap"}
    assert steps["margin"]["done"] is False and steps["margin"]["parameters"] == {"min": 5.0}
    assert steps["split"]["rows"] is None


def test_rows_the_funnel_and_another_threshold(ask: Any) -> None:
    shown = ask("show", "colours -n 2")
    assert len(shown["rows"]) == 2 and shown["rows"][0]["chosen"][0]["role"] == "assistant"
    assert [step["name"] for step in ask("show", "colours --funnel")][:2] == ["source", "exact_duplicate"]
    moved = ask("show", "colours@v1 --rethreshold margin=3")
    assert moved["rows_then"] == ask("versions")[1]["splits"]["train"] + ask("versions")[1]["splits"]["test"]


def test_an_export_says_where_it_is_and_that_it_was_checked(ask: Any, tmp_path: Path) -> None:
    note = ask("export", "colours --to jsonl --out OUT --check")
    assert note["path"] == str(tmp_path / "out")
    assert note["check"]["passed"] is True
