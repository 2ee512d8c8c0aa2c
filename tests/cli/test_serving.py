"""Schedules against a real server and worker: set, set again, run, listed, removed."""

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from curate.errors import UsageError
from curate.scheduling import When
from curate.services import down, status, up
from tests.cli.conftest import Curate, Told, write_project
from tests.postgres import free_port

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a recipe, and a store with server and worker."""
    folder = tmp_path_factory.mktemp("served")
    write_project(folder)
    up(folder / "store", port=free_port())
    yield folder
    down(folder / "store")


@pytest.fixture
def ask(curate: Curate, served: Path) -> Iterator[Callable[..., Any]]:
    """What a command says with --json; at the end nothing is scheduled."""

    def call(verb: str, *words: object) -> Any:
        told = curate(verb, *words, "--store", served / "store", "--json")
        assert told.code == 0, told.err
        return json.loads(told.out)

    yield call
    for one in call("schedules"):
        call("schedule", one["name"], "--off")


def refused(told: Told, code: int = 2) -> str:
    assert told.code == code, told.out + told.err
    assert told.out == "" and told.err.startswith("error: ")
    return told.err


# -- when


@pytest.mark.parametrize(
    ("text", "shown", "next"),
    [
        ("30s", "every 30s", datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)),
        ("90m", "every 90m", datetime(2026, 11, 21, 13, 30, tzinfo=UTC)),
        ("2h", "every 2h", datetime(2026, 11, 21, 14, tzinfo=UTC)),
        ("120m", "every 2h", datetime(2026, 11, 21, 14, tzinfo=UTC)),
        ("1d", "every 1d", datetime(2026, 11, 22, tzinfo=UTC)),
    ],
)
def test_intervals_count_from_midnight(text: str, shown: str, next: datetime) -> None:
    when = When.parse(None, text)
    assert (str(when), when.next(NOON)) == (shown, next)


def test_cron_is_meant_in_its_time_zone() -> None:
    when = When.parse("0  3 * * *", None, "Europe/Berlin")
    assert str(when) == "0 3 * * * (Europe/Berlin)"
    assert when.next(NOON) == datetime(2026, 11, 22, 2, tzinfo=UTC)


def test_cron_without_a_zone_is_meant_in_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert When.parse("0 3 * * *", None).timezone == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("cron", "interval", "timezone", "said"),
    [
        ("every day", None, None, "--cron 'every day' names no time"),
        ("99 * * * *", None, None, "--cron '99 \\* \\* \\* \\*' names no time"),
        ("0 0 30 2 *", None, None, "names no time"),
        ("0 3 * * *", None, "Mars/Olympus", "--timezone 'Mars/Olympus' is not known"),
        (None, "0s", None, "--interval '0s': should be a whole number and a unit"),
        (None, "-5m", None, "--interval"),
        (None, "2 weeks", None, "--interval"),
        (None, "2h", "UTC", "--timezone goes with --cron"),
        (None, None, None, "say when"),
        ("0 3 * * *", "2h", None, "say when"),
    ],
)
def test_times_that_are_none(cron: str | None, interval: str | None, timezone: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        When.parse(cron, interval, timezone)


# -- without a server


def test_what_is_wrong_with_the_recipe_is_said_at_once(curate: Curate, tmp_path: Path) -> None:
    write_project(tmp_path)
    words = ["--interval", "2h", "--set", "margin.min=x", "--set", "split.test=7", "--store", tmp_path / "store"]
    said = refused(curate("schedule", tmp_path / "curate.yaml", *words))
    assert "2 problems in the recipe" in said and "margin" in said and "split" in said


def test_a_wrong_refresh_or_time_is_said_without_a_server(curate: Curate, tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    assert "refresh" in refused(curate("schedule", recipe, "--interval", "2h", "--refresh", "x", "--store", tmp_path / "store"))
    assert "--cron" in refused(curate("schedule", recipe, "--cron", "x", "--store", tmp_path / "store"))


@pytest.mark.parametrize("words", [["schedules"], ["schedule", "RECIPE", "--interval", "2h"], ["schedule", "x", "--off"]])
def test_without_a_server_the_way_out_is_told(curate: Curate, tmp_path: Path, words: list[str]) -> None:
    recipe = write_project(tmp_path)
    said = refused(curate(*(recipe if word == "RECIPE" else word for word in words), "--store", tmp_path / "store"))
    assert "start one with `curate up`" in said and said.count("\n") == 1


def test_down_where_nothing_runs(curate: Curate, tmp_path: Path) -> None:
    assert curate("down", "--store", tmp_path / "store") == (0, "nothing runs for this store\n", "")


# -- with one


@pytest.mark.slow
def test_up_again_tells_where_it_runs(curate: Curate, served: Path) -> None:
    told = curate("up", "--store", served / "store")
    assert told.code == 0 and "server and worker run already" in told.out
    assert str(status(served / "store").ui_url) in told.out
    assert curate("up", "--store", served / "store", "--port", free_port()).code == 2


@pytest.mark.slow
def test_a_recipe_is_scheduled_once_however_often_it_is_said(ask: Callable[..., Any], served: Path) -> None:
    first = ask("schedule", served / "curate.yaml", "--cron", "0 3 * * *", "--timezone", "UTC", "--refresh", "append")
    assert (first["name"], first["when"], first["refresh"]) == ("colours", "0 3 * * * (UTC)", "append")
    again = ask("schedule", served / "curate.yaml", "--interval", "2h", "--set", "margin.min=3")
    (listed,) = ask("schedules")
    assert listed == again
    assert (listed["when"], listed["refresh"]) == ("every 2h", "append")
    assert listed["recipe"] == str(served / "curate.yaml")
    assert listed["next"] == When(seconds=7200).next().isoformat()
    assert (listed["last"], listed["version"]) == (None, None)


@pytest.mark.slow
def test_off_takes_it_away_by_recipe_or_dataset(ask: Callable[..., Any], curate: Curate, served: Path) -> None:
    for named in (served / "curate.yaml", "colours"):
        ask("schedule", served / "curate.yaml", "--interval", "2h")
        assert ask("schedule", named, "--off") == {"name": "colours", "scheduled": False}
        assert ask("schedules") == []
    assert "nothing is scheduled for 'colours'" in refused(curate("schedule", "colours", "--off", "--store", served / "store"))


@pytest.mark.slow
def test_the_worker_runs_it_when_it_is_due_and_runs_never_overlap(ask: Callable[..., Any], curate: Curate, served: Path) -> None:
    ask("schedule", served / "curate.yaml", "--interval", "1s", "--set", "margin.min=3")
    deadline = time.monotonic() + 120
    while (one := ask("schedules")[0])["state"] != "Unchanged" and time.monotonic() < deadline:
        time.sleep(1)
    assert (one["state"], one["version"]) == ("Unchanged", "colours@v1")
    ask("schedule", "colours", "--off")
    records = [json.loads(path.read_text()) for path in (served / "store" / "runs").glob("*/run.json")]
    ended = sorted((record["started"], record["ended"] or float("inf")) for record in records)
    assert len(ended) >= 2
    assert all(before[1] <= after[0] for before, after in zip(ended, ended[1:], strict=False))
    shown = curate("show", "colours@v1", "--store", served / "store", "--funnel")
    assert shown.code == 0 and "margin" in shown.out
    log = (served / "store" / "services" / "worker.log").read_text()
    assert "colours" in log and "\x1b" not in log


SLOW = """\
name: slow
models:
  writer: {backend: fake, name: w, options: {delay_s: 2, max_concurrency: 1, concurrency: 1}}
source: {path: answers.jsonl, rows: prompts, columns: {prompt: prompt}}
steps:
  - generate: {model: writer, n: 9}
"""


@pytest.mark.slow
def test_down_lets_a_run_under_way_write_down_where_it_stopped(ask: Callable[..., Any], served: Path) -> None:
    (served / "slow.yaml").write_text(SLOW)
    ask("schedule", served / "slow.yaml", "--interval", "2s")
    deadline = time.monotonic() + 120
    while not (going := [run for run in ask("runs") if run["name"] == "slow"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert going[0]["state"] == "running"
    time.sleep(1)
    assert ask("down") == {"stopped": True}
    states = {run["state"] for run in ask("runs") if run["name"] == "slow"}
    assert "interrupted" in states and not states & {"running", "crashed"}
    assert ask("up")["started"] == ["server", "worker"]
    assert [one["name"] for one in ask("schedules")] == ["slow"]
