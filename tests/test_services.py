"""A real server and worker: found again, healed after kill -9, stopped without touching anything else."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from curate import services, services_processes
from curate.errors import CurateError, UsageError
from curate.services import Services, api_url, database_url, down, masked, status, up
from curate.store import alive
from tests.postgres import PASSWORD, free_port, private_cluster

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_") or name == "CURATE_DATABASE"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store whose services run now and then."""
    root = tmp_path_factory.mktemp("services") / "store"
    yield root
    down(root)


@pytest.fixture
def running(root: Path) -> Services:
    """Server and worker, started if they are not."""
    if status(root).running:
        return status(root)
    return up(root, None if (root / "services").exists() else free_port())


def kill(pid: int | None) -> None:
    assert pid
    os.kill(pid, signal.SIGKILL)
    while alive.began(pid) is not None:
        time.sleep(0.05)


def get(url: str) -> object:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.loads(reply.read())


def command(verb: str, root: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "curate.cli.main", verb, "--store", str(root), "--json"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def texts(folder: Path) -> Iterator[tuple[Path, bytes]]:
    yield from ((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has nothing to do with us."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


# -- running


def test_they_answer_and_are_found_again(root: Path, running: Services) -> None:
    assert get(f"{running.api_url}/health") is True
    again = up(root)
    assert again.started == ()
    assert (again.server_pid, again.worker_pid) == (running.server_pid, running.worker_pid)
    assert api_url(root) == running.api_url == status(root).api_url


def test_they_listen_on_this_machine_only(running: Services) -> None:
    listening = [
        connection.laddr.ip
        for pid in (running.server_pid, running.worker_pid)
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening and set(listening) == {"127.0.0.1"}


def test_their_files_are_their_own(root: Path, running: Services) -> None:
    home = root / "services"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE((home / name).stat().st_mode) for name in ("state.json", "server.log", "worker.log")} == {0o600}
    assert (home / "prefect" / "prefect.db").exists()
    assert b"\x1b" not in (home / "server.log").read_bytes() + (home / "worker.log").read_bytes()


def test_another_port_or_database_is_refused_while_they_run(root: Path, running: Services) -> None:
    with pytest.raises(UsageError, match=f"runs on port {running.api_url.split(':')[2].split('/')[0]}"):  # type: ignore[union-attr]
        up(root, port=free_port())
    with pytest.raises(UsageError, match="runs on SQLite in the store; `curate down` first"):
        up(root, database="postgresql://u:secret@127.0.0.1/x")


# -- killed


def test_a_killed_worker_is_started_again_and_what_it_left_is_ended(root: Path, running: Services, tmp_path: Path) -> None:
    state = json.loads((root / "services" / "state.json").read_text())
    wait = [sys.executable, "-c", "import time; time.sleep(600)"]
    left = services_processes.start(wait, os.environ, tmp_path, tmp_path / "log", f"{state['token']}:worker")
    kill(running.worker_pid)
    assert status(root).running is False
    healed = up(root)
    assert healed.started == ("worker",) and healed.running
    assert healed.server_pid == running.server_pid
    assert alive.began(left) is None


def test_a_killed_server_is_started_again_where_it_was(root: Path, running: Services) -> None:
    kill(running.server_pid)
    assert api_url(root) is None
    healed = up(root)
    assert healed.started == ("server",)
    assert (healed.api_url, healed.worker_pid) == (running.api_url, running.worker_pid)


def test_two_ups_at_once_yield_one_server_and_a_taken_port_another_one(root: Path, running: Services) -> None:
    assert down(root) is True
    port = json.loads((root / "services" / "state.json").read_text())["port"]
    with socket.create_server(("127.0.0.1", port)):
        both = [command("up", root) for _ in range(2)]
        told = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    first, second = (json.loads(out) for out, _ in told)
    assert sorted([first["started"], second["started"]]) == [[], ["server", "worker"]]
    assert first["server_pid"] == second["server_pid"]
    assert first["api_url"] == second["api_url"] != f"http://127.0.0.1:{port}/api"
    state = json.loads((root / "services" / "state.json").read_text())
    assert services_processes.marked(f"{state['token']}:server") == [first["server_pid"]]


def test_a_port_asked_for_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is taken by another program"):
            up(tmp_path, port=port)
    assert status(tmp_path).running is False


# -- stopped


def test_down_stops_both_and_their_schedule_of_work_is_kept(root: Path, running: Services) -> None:
    assert down(root) is True
    assert alive.began(running.server_pid or 0) is None and alive.began(running.worker_pid or 0) is None
    assert status(root) == Services(False, None, None, None, None, "SQLite in the store", str(root / "services"))
    assert down(root) is False


def test_down_where_nothing_ever_ran(tmp_path: Path) -> None:
    assert down(tmp_path / "store") is False
    assert not (tmp_path / "store").exists()


def test_a_stranger_with_the_recorded_number_is_not_touched(tmp_path: Path, stranger: "subprocess.Popen[bytes]") -> None:
    home = tmp_path / "services"
    home.mkdir()
    recycled = services_processes.identity(stranger.pid) | {"began": "1"}
    told = {"format": 1, "token": "t", "port": 4200, "server": recycled, "worker": recycled}
    (home / "state.json").write_text(json.dumps(told))
    assert api_url(tmp_path) is None
    assert down(tmp_path) is False
    assert stranger.poll() is None


def test_services_of_another_machine_are_left_to_it(tmp_path: Path) -> None:
    home = tmp_path / "services"
    home.mkdir()
    elsewhere = {"host": "far", "place": "far away", "pid": 1, "began": "1"}
    (home / "state.json").write_text(json.dumps({"token": "t", "port": 4200, "server": elsewhere, "worker": elsewhere}))
    for call in (up, down):
        with pytest.raises(UsageError, match="were started on far; use `curate down` there"):
            call(tmp_path)


def started(tmp_path: Path, code: str) -> Callable[[], list[int]]:
    """Finds a process that runs some Python."""
    ready = tmp_path / "ready"
    code = f"import pathlib, signal, time\n{code}\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(600)"
    services_processes.start([sys.executable, "-c", code], os.environ, tmp_path, tmp_path / "log", f"{tmp_path}:x")
    while not ready.exists():
        time.sleep(0.05)
    return lambda: services_processes.marked(f"{tmp_path}:x")


def test_what_ends_when_asked_is_not_killed(tmp_path: Path) -> None:
    find = started(tmp_path, "")
    assert services_processes.end(find, grace=20) is True
    assert find() == []


def test_what_does_not_end_when_asked_is_killed(tmp_path: Path, stranger: "subprocess.Popen[bytes]") -> None:
    find = started(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert services_processes.end(find, grace=0.5) is False
    assert find() == []
    assert stranger.poll() is None


# -- databases


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("sqlite", None),
        ("postgresql://u:p@h:5432/d", "postgresql+asyncpg://u:p@h:5432/d"),
        ("postgres://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql+asyncpg://u@h/d?ssl=require", "postgresql+asyncpg://u@h/d?ssl=require"),
        ("postgresql://u@h/d?sslmode=require", "postgresql+asyncpg://u@h/d?ssl=require"),
    ],
)
def test_addresses_of_databases(given: str, taken: str | None) -> None:
    assert database_url(given) == taken


@pytest.mark.parametrize("given", ["mysql://u:secret@h/d", "postgresql://u:secret@h", "postgresql+psycopg2://u:secret@h/d", "x"])
def test_other_databases_are_refused_without_their_password(given: str) -> None:
    with pytest.raises(UsageError, match="should be postgresql://") as refused:
        database_url(given)
    assert "secret" not in str(refused.value)


def test_a_password_is_masked() -> None:
    assert masked("postgresql+asyncpg://u:p%40%2Fss@h:1/d?password=x") == "postgresql://u:***@h:1/d?***"
    assert masked("postgresql://h/d") == "postgresql://h/d"


def test_postgresql_holds_everything_and_its_password_shows_nowhere(tmp_path: Path) -> None:
    secret = [PASSWORD.encode(), quote(PASSWORD, safe="").encode()]
    with private_cluster() as cluster:
        address = cluster.address
        try:
            wrong = address.replace(quote(PASSWORD, safe=""), "wr0ng")
            with pytest.raises(
                CurateError, match="the server ended right after its start(.|\n)*password authentication failed"
            ) as bad:
                up(tmp_path, port=free_port(), database=wrong)
            assert "wr0ng" not in str(bad.value) + repr(bad.value)
            found = up(tmp_path, port=free_port(), database=address)
            assert found.running and found.database.startswith("postgresql://curate:***@127.0.0.1:")
            assert get(f"{found.api_url}/health") is True
            kill(found.server_pid)
            assert up(tmp_path).started == ("server",), "the database is remembered"
            assert not (tmp_path / "services" / "prefect" / "prefect.db").exists()
            holding = {path.name for path, content in texts(tmp_path) if any(word in content for word in secret)}
            assert holding == {"state.json"}
            environments = Path(f"/proc/{found.worker_pid}/environ").read_bytes()
            assert not any(word in environments for word in secret)
        finally:
            down(tmp_path)


# -- which server


def test_a_server_named_by_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_url(tmp_path) is None
    monkeypatch.setenv("PREFECT_API_URL", "http://team:4200/api")
    assert api_url(tmp_path) == "http://team:4200/api"


def test_a_database_in_the_environment_of_the_user_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/nowhere")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////nowhere/x.db")
    made = services.environment(tmp_path / "services", "http://127.0.0.1:1/api")
    assert made["PREFECT_HOME"] == str(tmp_path / "services" / "prefect")
    assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in made
