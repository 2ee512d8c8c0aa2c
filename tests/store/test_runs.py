"""Records of runs and the claims on datasets, by real processes that are killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.errors import Busy, StoreError
from curate.store import alive, disk
from curate.store.locks import Holder, lock_path
from curate.store.runs import STALE_SECONDS, RunRecord, claim, past_run, past_runs
from tests.models.test_ledger_files import NO_LOCKS

PROJECT = Path(__file__).parent.parent.parent
RUNNING = """
import sys, time
from pathlib import Path
from curate.store.runs import RunRecord, claim
root, id, name, seconds = Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
record = RunRecord(root, id, name, seconds=0.05).start()
try:
    with claim(root, name, sys.argv[5], record.wait, run=id, seconds=0.05):
        record.go_on()
        record.at("judge", 5)
        print("claimed", time.time(), flush=True)
        time.sleep(seconds)
        print("ends", time.time(), flush=True)
    record.end("done")
except Exception as error:
    record.end("skipped", error=str(error))
    print("left", error, flush=True)
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that claims a dataset for some seconds."""
    begun: list[subprocess.Popen[str]] = []

    def begin(id: str, name: str, seconds: float, busy: str = "wait", **environment: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-c", RUNNING, str(tmp_path), id, name, str(seconds), busy]
        begun.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env={**os.environ, **environment}))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split(maxsplit=1)


def until(true: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def write(root: Path, **fields: Any) -> Path:
    """A record as another process may have left it."""
    path = root / "runs" / "r1" / "run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"id": "r1", "name": "a", "state": "running", "started": 1.0, "ended": None, "recipe": None, "limit": None}
    path.write_text(json.dumps(record | alive.this_process() | fields))
    return path


def state(root: Path, id: str = "r1") -> str:
    record = past_run(root, id)
    return "" if record is None else str(record["state"])


# -- records


def test_a_record_tells_how_a_run_goes_and_how_it_ended(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, "r1", "a", "a.yaml", 10, via="prefect", flow_run_id="f", schedule="a daily")
    record.start()
    record.at("judge", 5, 4)
    found = until(lambda: [run for run in past_runs(tmp_path) if run["step"]], seconds=5)[0]  # before the next heartbeat
    assert (found["state"], found["step"], found["rows"], found["kept"]) == ("running", "judge", 5, 4)
    record.end("done", version="a@v1")
    record.end("failed", error="too late")
    (found,) = past_runs(tmp_path)
    assert found["ended"] >= found["started"] and found["pid"] == os.getpid() and found["host"] == socket.gethostname()
    assert {key: found[key] for key in ("id", "name", "recipe", "limit", "state", "version")} == {
        "id": "r1", "name": "a", "recipe": "a.yaml", "limit": 10, "state": "done", "version": "a@v1",
    }  # fmt: skip
    assert (found["via"], found["flow_run_id"], found["schedule"]) == ("prefect", "f", "a daily")


def test_a_running_record_is_refreshed_and_an_ended_one_is_not(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, "r1", "a", seconds=0.02).start()
    first = past_runs(tmp_path)[0]["heartbeat"]
    until(lambda: past_runs(tmp_path)[0]["heartbeat"] > first)
    record.end("unchanged")
    ended = record.path.read_bytes()
    time.sleep(0.2)
    assert record.path.read_bytes() == ended and state(tmp_path) == "unchanged"


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (ValueError("no"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (Busy("b", {}, stepped_aside=True), "skipped"),
        (Busy("b", {}, stepped_aside=False), "failed"),
        (None, "done"),
    ],
)
def test_a_context_ends_as_its_block_does(tmp_path: Path, error: BaseException | None, ended: str) -> None:
    try:
        with RunRecord(tmp_path, "r1", "a"):
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    assert state(tmp_path) == ended


def test_a_disk_that_cannot_be_written_hides_no_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the reason"), RunRecord(tmp_path, "r1", "a"):
        disk.remove_tree(tmp_path / "tmp")
        (tmp_path / "tmp").write_text("a file where scratch files go")
        raise ValueError("the reason")
    with pytest.raises((StoreError, OSError)):
        RunRecord(tmp_path, "r2", "a").start()


def test_a_killed_run_has_crashed(tmp_path: Path, start: Start) -> None:
    process = start("r1", "a", 60)
    assert line(process)[0] == "claimed"
    until(lambda: past_runs(tmp_path)[0]["step"] == "judge")
    assert state(tmp_path) == "running"
    process.send_signal(signal.SIGKILL)
    until(lambda: state(tmp_path) == "crashed")  # a zombie until somebody waits for it
    assert past_runs(tmp_path)[0]["crashed_at"] == json.loads((tmp_path / "runs/r1/run.json").read_text())["heartbeat"]


def test_a_process_number_used_again_is_not_alive(tmp_path: Path) -> None:
    write(tmp_path)
    assert state(tmp_path) == "running"
    write(tmp_path, began="17")
    assert state(tmp_path) == "crashed"


@pytest.mark.parametrize("where", [{"host": "elsewhere", "place": "elsewhere b n"}, {"place": "another container"}])
def test_elsewhere_the_last_sign_of_life_tells(tmp_path: Path, where: dict[str, Any]) -> None:
    path = write(tmp_path, **where, pid=os.getpid(), began="17", heartbeat=5.0)  # a clock that is wrong by decades
    assert state(tmp_path) == "running"
    old = time.time() - STALE_SECONDS - 5
    os.utime(path, (old, old))
    found = past_run(tmp_path, "r1")
    assert found is not None and (found["state"], found["crashed_at"]) == ("crashed", 5.0)


def test_a_waiting_run_can_crash(tmp_path: Path) -> None:
    write(tmp_path, state="waiting", began="17")
    assert state(tmp_path) == "crashed"


def test_records_of_older_stores_are_understood(tmp_path: Path) -> None:
    path = write(tmp_path, host=socket.gethostname(), started=time.time())
    old = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("place", "began")}
    for changes, expected in (
        ({}, "running"),
        ({"started": 1.0}, "crashed"),  # the process of that number began long after
        ({"pid": 2**22 + 1}, "crashed"),
        ({"host": "elsewhere"}, "running"),
        ({"state": "done"}, "done"),
    ):
        path.write_text(json.dumps(old | changes))
        os.utime(path, (1, 1))
        assert state(tmp_path) == expected, changes


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "running"}', '{"state": 3, "started": 1}'])
def test_a_record_that_cannot_be_read_is_listed(tmp_path: Path, content: str) -> None:
    write(tmp_path).write_text(content)
    (found,) = past_runs(tmp_path)
    assert (found["id"], found["state"]) == ("r1", "unreadable")


def test_a_store_without_runs_has_none(tmp_path: Path) -> None:
    assert past_runs(tmp_path) == [] and past_run(tmp_path, "r1") is None and past_run(tmp_path, "../runs") is None
    assert list(tmp_path.iterdir()) == []


# -- claims


def test_one_waits_for_the_other_and_goes_on(tmp_path: Path, start: Start) -> None:
    first = start("r1", "a", 2)
    assert line(first)[0] == "claimed"
    second = start("r2", "a", 0)
    waiting = until(lambda: [run for run in past_runs(tmp_path) if run["state"] == "waiting"])[0]
    assert waiting["id"] == "r2" and "run r1, on " in waiting["waits_for"] and f"process {first.pid}" in waiting["waits_for"]
    assert float(line(first)[1]) <= float(line(second)[1])
    second.wait(30)
    assert state(tmp_path, "r2") == "done"


def test_the_claim_of_a_killed_run_is_free(tmp_path: Path, start: Start) -> None:
    killed = start("r1", "a", 60)
    assert line(killed)[0] == "claimed"
    with pytest.raises(Busy), claim(tmp_path, "a", "refuse"):
        raise AssertionError("claimed")
    killed.kill()
    killed.wait()
    with claim(tmp_path, "a", "refuse"):
        pass


def test_one_steps_aside_and_knows_for_whom(tmp_path: Path, start: Start) -> None:
    first = start("r1", "a", 60)
    assert line(first)[0] == "claimed"
    for busy in ("step_aside", "refuse"):
        with pytest.raises(Busy, match="a is being made by run r1, on ") as raised, claim(tmp_path, "a", busy):  # type: ignore[arg-type]
            raise AssertionError("claimed")
        assert (raised.value.holder["run"], raised.value.holder["pid"]) == ("r1", first.pid)
        assert raised.value.stepped_aside == (busy == "step_aside") and raised.value.exit_code == 1
    told = start("r2", "a", 0, "step_aside")
    assert line(told)[0] == "left" and told.wait(30) == 0 and state(tmp_path, "r2") == "skipped"


def test_two_that_start_at_once_do_not_overlap(tmp_path: Path, start: Start) -> None:
    spans = [tuple(float(line(process)[1]) for _ in range(2)) for process in [start(f"r{i}", "a", 0.3) for i in range(2)]]
    (_, first_end), (second_start, _) = sorted(spans)
    assert first_end <= second_start


def test_eight_of_different_names_do_not_wait(tmp_path: Path, start: Start) -> None:
    processes = [start(f"r{i}", f"name-{i}", 60, "refuse") for i in range(8)]
    assert [line(process)[0] for process in processes] == ["claimed"] * 8
    assert {run["state"] for run in past_runs(tmp_path)} == {"running"}


def test_threads_of_one_process_take_turns(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def make(number: int) -> None:
        with claim(tmp_path, "a"):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.05)
            inside.remove(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_a_preview_has_a_claim_of_its_own(tmp_path: Path) -> None:
    both = claim(tmp_path, "a"), claim(tmp_path, "a", "refuse", preview=True)
    with both[0], both[1], claim(tmp_path, "a~preview", "refuse"), pytest.raises(Busy):
        claim(tmp_path, "a", "refuse", preview=True).__enter__()


def test_a_claim_ends_with_an_error_too(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="no"), claim(tmp_path, "a", "refuse"):
            raise ValueError("no")
    assert Holder.read(lock_path(tmp_path, "a")) == Holder()  # it names nobody who is gone


@pytest.mark.parametrize("name", ["../a", "a/b", ".hidden", "ü" * 300, "a" * 300, ""])
def test_a_lock_lies_among_the_runs_whatever_the_name(tmp_path: Path, name: str) -> None:
    path = lock_path(tmp_path, name)
    assert path.parent == tmp_path / "runs" and len(path.name.encode()) < 200 and path != lock_path(tmp_path, name + "a")
    with claim(tmp_path, name, "refuse"):
        assert path.exists()


# -- disks without locks


def library(folder: Path, code: str) -> str:
    """Compile a library that takes the place of the system's locks."""
    (folder / "locks.c").write_text(code)
    words = ["cc", "-shared", "-fPIC", "-o", str(folder / "locks.so"), str(folder / "locks.c"), "-ldl"]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no C compiler to build a library of other locks")
    return str(folder / "locks.so")


@pytest.fixture(scope="module")
def no_locks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library under which every lock is refused with ENOLCK."""
    return library(tmp_path_factory.mktemp("nolocks"), NO_LOCKS)


def test_where_locks_belong_to_whole_processes_threads_take_turns_too(tmp_path: Path) -> None:
    mine = library(tmp_path, "int flock(int file, int how) { return 0; }")  # a process's own lock never stands in its way
    code = """
import sys
from pathlib import Path
from curate.errors import Busy
from curate.store.runs import claim
with claim(Path(sys.argv[1]), "a", run="r1"):
    try:
        claim(Path(sys.argv[1]), "a", "refuse").__enter__()
    except Busy as error:
        print(error.holder["run"])
"""
    words = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "LD_PRELOAD": mine}
    assert subprocess.run(words, env=environment, cwd=PROJECT, text=True, capture_output=True).stdout == "r1\n"


def test_a_lease_is_kept_fresh(tmp_path: Path, start: Start, no_locks: str) -> None:
    assert line(start("r1", "a", 60, LD_PRELOAD=no_locks))[0] == "claimed"
    lease = tmp_path / "runs" / "a.lease"
    os.utime(lease, (1, 1))
    until(lambda: lease.stat().st_mtime > 1)


def test_without_locks_one_waits_too(tmp_path: Path, start: Start, no_locks: str) -> None:
    first = start("r1", "a", 1.5, LD_PRELOAD=no_locks)
    assert line(first)[0] == "claimed" and (tmp_path / "runs" / "a.lease").exists()
    aside, second = (start(f"r{i}", "a", 0, busy, LD_PRELOAD=no_locks) for i, busy in ((2, "step_aside"), (3, "wait")))
    assert "run r1" in line(aside)[1]
    assert float(line(first)[1]) <= float(line(second)[1])
    second.wait(30)
    assert not list((tmp_path / "runs").glob("*.lease")) and not list((tmp_path / "runs").glob(".*"))


def test_without_locks_a_killed_run_leaves_nothing_claimed(tmp_path: Path, start: Start, no_locks: str) -> None:
    killed = start("r1", "a", 60, LD_PRELOAD=no_locks)
    assert line(killed)[0] == "claimed"
    killed.kill()
    killed.wait()
    several = [start(f"r{i}", "a", 0.2, LD_PRELOAD=no_locks) for i in range(2, 5)]  # all find it dead at once
    spans = sorted(tuple(float(line(process)[1]) for _ in range(2)) for process in several)
    assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:], strict=False))


def test_without_locks_a_lease_from_elsewhere_lapses_when_it_is_not_refreshed(
    tmp_path: Path, start: Start, no_locks: str
) -> None:
    (tmp_path / "runs").mkdir()
    lease = tmp_path / "runs" / "a.lease"
    lease.write_text(json.dumps(Holder("r1", "elsewhere", 1, 5.0, "elsewhere", "17", "t").to_json()))
    assert line(start("r2", "a", 0, "refuse", LD_PRELOAD=no_locks))[0] == "left"
    old = time.time() - STALE_SECONDS - 5
    os.utime(lease, (old, old))
    assert line(start("r3", "a", 0, "refuse", LD_PRELOAD=no_locks))[0] == "claimed"
