"""The command that is told how a run ended, run for real."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from curate.notify import event_of, notify

EVENT = {"event": "published", "state": "done", "dataset": "colours", "version": "colours@v3", "run": "r1"}


def hook(tmp_path: Path, code: str) -> str:
    """A command that runs Python code."""
    (tmp_path / "hook it.py").write_text(code)
    return f"{sys.executable} '{tmp_path / 'hook it.py'}' {tmp_path}/told"


COPY = """
import json, os, sys
told = {"event": json.load(sys.stdin), "words": sys.argv[2:]}
told |= {name: os.environ[name] for name in ("CURATE_EVENT", "CURATE_DATASET", "CURATE_VERSION", "CURATE_STATE")}
open(sys.argv[1], "w").write(json.dumps(told))
"""


def told(tmp_path: Path, event: dict[str, Any], words: str = "") -> dict[str, Any]:
    said: list[str] = []
    notify(hook(tmp_path, COPY) + words, event, said.append)
    assert said == []
    found: dict[str, Any] = json.loads((tmp_path / "told").read_text())
    return found


def test_the_command_gets_the_event_on_its_input_and_in_short_in_its_environment(tmp_path: Path) -> None:
    found = told(tmp_path, EVENT)
    assert found["event"] == EVENT
    assert (found["CURATE_EVENT"], found["CURATE_DATASET"]) == ("published", "colours")
    assert (found["CURATE_VERSION"], found["CURATE_STATE"]) == ("colours@v3", "done")


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    assert told(tmp_path, EVENT, " '$HOME' ; touch x > y")["words"] == ["$HOME", ";", "touch", "x", ">", "y"]


def test_what_is_unknown_is_empty_in_the_environment(tmp_path: Path) -> None:
    assert told(tmp_path, {"event": "failed", "version": None})["CURATE_VERSION"] == ""


def test_secrets_are_masked_in_the_event_and_in_what_the_command_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "planted-1234567")
    error = "line one: planted-1234567\nline two: sk-abcdefghij at https://me:secret@host/"
    event = EVENT | {"error": error, "gates": [{"gate": "planted-1234567", "value": 0.5}]}
    found = told(tmp_path, event)["event"]
    assert found["error"] == "line one: ***\nline two: *** at https://***host/"
    assert found["gates"] == [{"gate": "***", "value": 0.5}]
    said: list[str] = []
    notify(hook(tmp_path, "import os; print('key', os.environ['MY_API_KEY'])"), EVENT, said.append)
    assert said == ["notify: key ***"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/nowhere/at/all", "could not run"),
        ("echo 'unbalanced", "could not run"),
        ("/", "could not run"),
        ("false", "ended with 1"),
    ],
)
def test_a_command_that_fails_is_a_warning(command: str, expected: str) -> None:
    said: list[str] = []
    notify(command, EVENT, said.append)
    assert len(said) == 1 and said[0].startswith("warning: the command told by --notify") and expected in said[0]


@pytest.mark.parametrize("command", [None, "", "  "])
def test_without_a_command_nothing_runs(command: str | None) -> None:
    said: list[str] = []
    notify(command, EVENT, said.append)
    assert said == []


def test_what_it_prints_goes_to_the_log_the_last_part_of_it(tmp_path: Path) -> None:
    said: list[str] = []
    notify(hook(tmp_path, "import sys; print('x' * 10_000); print('end', file=sys.stderr); sys.exit(3)"), EVENT, said.append)
    assert said[0].endswith("end") and len(said[0]) <= 2_100 and said[1].endswith("ended with 3")


def test_one_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(60)
"""
    said: list[str] = []
    began = time.monotonic()
    notify(hook(tmp_path, code), EVENT, said.append, seconds=2)
    assert time.monotonic() - began < 20 and said == ["warning: the command told by --notify took longer than 2 s and was ended"]
    end = time.monotonic() + 10
    while alive(int((tmp_path / "told").read_text())):
        assert time.monotonic() < end


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_one_that_leaves_a_process_behind_is_not_waited_for(tmp_path: Path) -> None:
    code = "import subprocess, sys; open(sys.argv[1], 'w').write(str(subprocess.Popen(['sleep', '5']).pid))"
    said: list[str] = []
    began = time.monotonic()
    notify(hook(tmp_path, code), EVENT, said.append)
    assert time.monotonic() - began < 4 and said == []
    os.kill(int((tmp_path / "told").read_text()), 9)


def test_one_that_does_not_read_a_large_event_does_no_harm(tmp_path: Path) -> None:
    said: list[str] = []
    notify("true", EVENT | {"gates": ["x" * 400] * 1_000}, said.append)
    assert said == []


RECORD = {"id": "r1", "name": "a", "state": "done", "limit": None, "version": "a@v1", "pid": 5}


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({}, "published"),
        ({"state": "unchanged"}, "unchanged"),
        ({"state": "gate_closed", "gates": [{"metric": "rows"}]}, "gate_closed"),
        ({"state": "failed", "error": "no"}, "failed"),
        ({"state": "interrupted"}, "interrupted"),
        ({"state": "skipped"}, None),
        ({"state": "running"}, None),
        ({"limit": 10}, None),
    ],
)
def test_the_event_of_a_record(changes: dict[str, Any], event: str | None) -> None:
    found = event_of(RECORD | changes)
    assert (found and found["event"]) == event
    if found:
        assert (found["run"], found["dataset"], found["version"]) == ("r1", "a", "a@v1") and "pid" not in found
        assert (found["error"], found["gates"]) == (changes.get("error"), changes.get("gates"))
