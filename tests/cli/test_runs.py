"""`curate runs`: what a person and a program are told of past runs."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from curate.store import alive
from tests.cli.conftest import EVIL, Curate

BEGAN = 1_780_000_000.0

GATE = {"condition": "> 9", "metric": "rows", "note": "2 too low", "passed": False, "value": 7.0}


def write(root: Path, id: str, **fields: Any) -> None:
    """A record as a run leaves it."""
    path = root / "runs" / id / "run.json"
    path.parent.mkdir(parents=True)
    record = {"id": id, "name": "colours", "state": "done", "started": BEGAN, "ended": BEGAN + 90, "recipe": None, "limit": None}
    path.write_text(json.dumps(record | {"via": "inline"} | alive.this_process() | fields))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One run of each kind, the newest first in this order."""
    write(tmp_path, "r6-gate", state="gate_closed", started=BEGAN + 6, error="closed", gates=[GATE])
    write(tmp_path, "r5-crash", state="running", started=BEGAN + 5, ended=None, heartbeat=BEGAN + 65, step="judge", rows=1200,
          began="17", recipe="/r/c.yaml", limit=9)  # fmt: skip
    write(tmp_path, "r4-wait", state="waiting", started=BEGAN + 4, ended=None, waits_for="waiting: run r0")
    write(tmp_path, "r3-same", state="unchanged", started=BEGAN + 3, version="colours@v1", via="prefect", schedule="daily")
    write(tmp_path, "r2-doors", name="doors", started=BEGAN + 2, version="doors@v4", via="prefect", flow_run_id="f-1")
    write(
        tmp_path,
        "r1-fail",
        state="failed",
        started=BEGAN + 1,
        error="step judge: no answer\nat all",
        command=["curate", "run", "a b"],
    )
    return tmp_path


def cells(out: str) -> dict[str, str]:
    """Each run's line, its columns by two spaces or more."""
    return {line.split()[0]: " | ".join(part.strip() for part in line.split("  ") if part.strip()) for line in out.splitlines()}


def test_each_run_has_a_line_with_how_it_went(curate: Curate, root: Path) -> None:
    lines = cells(curate("runs", "--store", root).out)
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(BEGAN))
    assert list(lines) == ["run", "r6-gate", "r5-crash", "r4-wait", "r3-same", "r2-doors", "r1-fail"]
    assert lines["run"] == "run | dataset | state | via | started | took | step | result"
    assert lines["r5-crash"] == f"r5-crash | colours | crashed | inline | {started} | 1 min | judge"
    assert lines["r4-wait"].endswith("waiting: run r0")
    assert lines["r3-same"].startswith("r3-same | colours | unchanged | schedule daily | ")
    assert lines["r3-same"].endswith("colours@v1 (the same content: nothing published)")
    assert lines["r2-doors"] == f"r2-doors | doors | done | prefect | {started} | 1 min | doors@v4"
    assert lines["r1-fail"].endswith("step judge: no answer")


def test_runs_are_chosen_by_dataset_and_number(curate: Curate, root: Path) -> None:
    assert [run["id"] for run in json.loads(curate("runs", "--name", "doors", "--json", "--store", root).out)] == ["r2-doors"]
    newest = json.loads(curate("runs", "--name", "colours", "--last", "2", "--json", "--store", root).out)
    assert [(run["id"], run["state"]) for run in newest] == [("r6-gate", "gate_closed"), ("r5-crash", "crashed")]
    assert "no runs of nothing" in curate("runs", "--name", "nothing", "--store", root).out


def test_a_crashed_run_in_full_tells_how_far_it_was_and_how_to_go_on(curate: Curate, root: Path) -> None:
    out = curate("runs", "r5", "--store", root).out
    assert out.startswith("run r5-crash crashed\n") and "judge (1,200 rows)" in out and "its last sign of life" in out
    assert out.endswith(f"to continue: curate run /r/c.yaml --limit 9 --store {root}\n")


def test_a_failed_run_in_full_tells_the_whole_error_and_its_own_command(curate: Curate, root: Path) -> None:
    out = curate("runs", "r1-fail", "--store", root).out
    assert "\nstep judge: no answer\nat all\n" in out and out.endswith("to continue: curate run 'a b'\n")


def test_closed_gates_are_a_table(curate: Curate, root: Path) -> None:
    lines = [line.split("  ") for line in curate("runs", "r6-gate", "--store", root).out.splitlines()]
    assert [part.strip() for part in lines[-2] if part.strip()] == ["metric", "value", "condition", "passed", "note"]
    assert [part.strip() for part in lines[-1] if part.strip()] == ["rows", "7", "> 9", "False", "2 too low"]


def test_a_run_that_published_has_nothing_to_continue(curate: Curate, root: Path) -> None:
    out = curate("runs", "r2", "--store", root).out
    assert "doors@v4" in out and "f-1" in out and "continue" not in out
    assert json.loads(curate("runs", "r2", "--json", "--store", root).out)["version"] == "doors@v4"


@pytest.mark.parametrize(("words", "said"), [("r9", "no run is called 'r9'"), ("r", "several runs begin with 'r'")])
def test_a_run_must_be_one(curate: Curate, root: Path, words: str, said: str) -> None:
    told = curate("runs", words, "--store", root)
    assert told.code == 2 and said in told.err


def test_records_are_shown_harmless(curate: Curate, tmp_path: Path) -> None:
    fields = {"step": EVIL, "error": EVIL, "name": EVIL, "schedule": EVIL, "gates": [{EVIL: EVIL}]}
    write(tmp_path, "r1", state="failed", **fields)
    for words in ([], ["r1"]):
        told = curate("runs", *words, "--store", tmp_path)
        assert (
            told.code == 0 and not set("\x1b\x07\x9b\u202e\r") & set(told.out) and "[bold]x[/bold]" in told.out.replace("\n", "")
        )


def test_a_record_that_cannot_be_read_is_shown(curate: Curate, tmp_path: Path) -> None:
    write(tmp_path, "r1")
    (tmp_path / "runs" / "r1" / "run.json").write_text("{")
    assert (
        "unreadable" in curate("runs", "--store", tmp_path).out and "unreadable" in curate("runs", "r1", "--store", tmp_path).out
    )
