"""What becomes of requests when the process that answers them dies, refuses or has to make room: without vLLM itself."""

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from curate.errors import UsageError
from curate.models import vllm_engine
from curate.models.vllm_engine import Engine

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def another_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "WORKER", Path(__file__).with_name("dying_worker.py"))
    monkeypatch.setattr(vllm_engine, "LEFT_OUT", ("PYTHONHOME", "VIRTUAL_ENV"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Engine]:
    def make(most: int = 0, **more: Any) -> Engine:
        (tmp_path / "deaths").write_text("")
        told = {"deaths": str(tmp_path / "deaths"), "most": most, **more.pop("settings", {})}
        return Engine("m", lambda: Path(sys.executable), told, **more)

    return make


def asked(engine: Engine, *bodies: str) -> list[Mapping[str, Any]]:
    """The answers, in order."""
    found: dict[int, Mapping[str, Any]] = {}
    over = threading.Event()

    def told(place: int, row: Mapping[str, Any]) -> None:
        found[place] = row
        if len(found) == len(bodies):
            over.set()

    for place, body in enumerate(bodies):
        engine.ask("ask", body, lambda row, place=place: told(place, row))  # type: ignore[misc]
    assert over.wait(60), found
    return [found[place] for place in range(len(bodies))]


def test_one_death_costs_no_answer(made: Callable[..., Engine]) -> None:
    engine = made(most=1)
    assert [row["body"] for row in asked(engine, "a", "die", "b")] == ["A", "DIE", "B"]
    assert engine.starts == 2
    assert engine.rest() and engine.pid is None


def test_after_two_deaths_all_that_is_left_is_told_why_with_the_tail_of_the_log(made: Callable[..., Engine]) -> None:
    engine = made(most=9)
    [first, *rest] = asked(engine, "a", "die", "b")
    assert first["body"] == "A" and engine.starts == 2
    assert {row["error"] for row in rest} == {"engine"}
    assert rest[0]["detail"].startswith("the engine died twice, the last time with signal SIGKILL:\n")
    assert rest[0]["detail"].splitlines()[-1] in ("asked die", "asked b")
    [later] = asked(engine, "c")
    assert later["error"] == "engine" and engine.starts == 2  # nobody tries in vain
    engine.rest()
    assert asked(engine, "d")[0]["body"] == "D"  # with the next step it may be another matter
    engine.rest()


def test_a_model_that_is_refused_is_not_loaded_again(made: Callable[..., Engine]) -> None:
    [plain] = asked(explained := made(settings={"refuses": "request"}), "a")
    [logged] = asked(unknown := made(settings={"refuses": "engine"}), "a")
    assert plain["detail"] == "it cannot be loaded" and logged["detail"] == "it cannot be loaded\na line of vLLM's log"
    assert explained.starts == unknown.starts == 1


def test_keys_of_other_services_stay_here(made: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOME_API_KEY", "DB_PASSWORD", "A_SECRET", "VIRTUAL_ENV", "KEPT"):
        monkeypatch.setenv(name, "x")
    engine = made(variables={"OF_THE_RECIPE": "1"})
    names = set(json.loads(asked(engine, "environment")[0]["body"]))
    engine.rest()
    assert {"KEPT", "OF_THE_RECIPE", "VLLM_NO_USAGE_STATS"} <= names
    assert not names & {"SOME_API_KEY", "DB_PASSWORD", "A_SECRET", "VIRTUAL_ENV"}


def test_an_engine_makes_room_for_another_unless_both_say_they_fit(made: Callable[..., Engine]) -> None:
    first, second = made(), made()
    asked(first, "a")
    process = first.pid
    asked(second, "a")
    assert first.pid is None and second.pid is not None and not Path(f"/proc/{process}").exists()
    third, fourth = made(fits_beside=True), made(fits_beside=True)
    asked(third, "a")
    asked(fourth, "a")
    assert second.pid is None and third.pid is not None and fourth.pid is not None
    for engine in (third, fourth):
        engine.rest()


def test_what_nobody_waits_for_any_more_is_dropped(made: Callable[..., Engine]) -> None:
    engine, told = made(), []
    engine.forget(engine.ask("ask", "a", told.append))
    assert engine.waiting == 0
    asked(engine, "b")
    assert told == []
    engine.rest()


def test_an_interpreter_that_is_not_there_is_told_to_all(tmp_path: Path) -> None:
    def python() -> Path:
        raise UsageError("no interpreter")

    found = asked(Engine("m", python, {}), "a", "b")
    assert [(row["error"], row["detail"]) for row in found] == [("engine", "no interpreter")] * 2
    broken = tmp_path / "python"
    broken.write_text("not a program")
    os.chmod(broken, 0o755)
    assert "Exec format error" in asked(Engine("m", lambda: broken, {}), "a")[0]["detail"]
