"""A Prefect server and a worker on this machine, for one store: started once, found again, stopped cleanly.

<store>/services/state.json   what runs, under which process, on which port; readable by its owner alone
<store>/services/prefect/     the server's own files: its database, unless another is named
<store>/services/*.log        what the server and the worker say

Both listen on 127.0.0.1 only. Prefect's own settings and files in the user's home are neither read nor changed.
"""

import json
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from curate.errors import CurateError, UsageError
from curate.logs import TIMES
from curate.services_processes import end, groups, identity, ours, start
from curate.store import alive, disk
from curate.store.locks import NoLocks, try_lock

HOST = "127.0.0.1"
POOL = "curate"
"""The work pool that the worker takes runs from."""
PORTS = range(4200, 4300)
START_SECONDS = 180.0  # a server's first start makes its database; machines under load are slow
HANDOVER_SECONDS = 10.0
PORT_SECONDS = 3.0
GRACE_SECONDS = 20.0
"""How long a run under way may take to write down where it stopped, before it is forced."""
TELL_SECONDS = 5.0
BUSY_SECONDS = 20.0
"""How long the server may refuse because its database is busy: SQLite lets one write at a time."""
LOOK_SECONDS = 0.25
POLL_SECONDS = 2
"""How often the worker asks for work."""
TAIL_LINES = 15
LOG_BYTES = 20_000_000  # a log longer than that is set aside when its process starts
IN_USE = "already in use"

Say = Callable[[str], None]
Process = Mapping[str, Any]
Role = Literal["server", "worker"]
ROLES: tuple[Role, Role] = ("worker", "server")
"""In the order in which they are stopped."""


@dataclass(frozen=True)
class State:
    """What is recorded of a store's services."""

    token: str
    """Marks the processes of this store."""
    port: int | None = None
    """Of the server, or of the last one."""
    database: str | None = None
    """Address with password; None for SQLite in the store."""
    server: Process | None = None
    worker: Process | None = None

    @property
    def url(self) -> str:
        """Where the server's API is."""
        return f"http://{HOST}:{self.port}/api"


@dataclass(frozen=True)
class Services:
    """What runs for a store, as told to people and programs."""

    running: bool
    """Whether both run."""
    api_url: str | None
    ui_url: str | None
    server_pid: int | None
    worker_pid: int | None
    database: str
    """Without password."""
    logs: str
    started: tuple[str, ...] = ()
    """What the call at hand started: server, worker."""


def up(root: Path, port: int | None = None, database: str | None = None, say: Say = lambda _: None) -> Services:
    """Start a server and a worker for the store, or find those that run.

    port: a free one from 4200 on if not given. database: postgresql://…, or sqlite for the store's own; what it was last time
    if not given. say: told how it goes.
    """
    home = home_of(root)
    with _alone(home, say):
        state = _settled(home, _wanted(_read(home), port, database))
        state, began = _with_server(home, state, port, say)
        missed = 0 if _lives(state.worker) else tidy(state)
        if missed:
            say(f"{missed} runs were missed while nothing ran here; the newest of each schedule is made now")
        state, began_worker = _with_worker(home, state, say)
    return _told(home, state, began + began_worker)


def down(root: Path, say: Say = lambda _: None) -> bool:
    """Stop the worker, its runs and the server. False if nothing ran. What runs had done is kept, and continued by the next."""
    home = home_of(root)
    if not home.is_dir():
        return False
    with _alone(home, say):
        state = _settled(home, _read(home))
        found = any(_ours(state, role) for role in ROLES)
        for role in ROLES:
            _end(state, role, say)
        if found or state.server or state.worker:
            _write(home, replace(state, server=None, worker=None))
    return found


def status(root: Path) -> Services:
    """What runs for the store."""
    home = home_of(root)
    return _told(home, _read(home))


def api_url(root: Path) -> str | None:
    """Where Prefect's API is: PREFECT_API_URL, else the running server of this store, else None."""
    if told := os.environ.get("PREFECT_API_URL"):
        return told
    state = _read(home_of(root))
    return state.url if _lives(state.server) else None


def client_settings(root: Path) -> dict[str, str]:
    """Variables that keep Prefect in this process quiet, and out of the user's home; to be set before it is imported."""
    return {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home_of(root) / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_COLORS": "false",
    }


def home_of(root: Path) -> Path:
    """The folder that holds everything about a store's services."""
    return root.absolute() / "services"


def database_url(given: str) -> str | None:
    """An address as Prefect takes it, from one as people write it; None for SQLite in the store."""
    if given == "sqlite":
        return None
    parts = urlsplit(given)
    if parts.scheme not in ("postgresql", "postgres", "postgresql+asyncpg") or not parts.path.strip("/"):
        shown = masked(given) if parts.scheme else given
        raise UsageError(f"--database {shown}: should be postgresql://USER:PASSWORD@HOST:PORT/NAME, or sqlite")
    # asyncpg says `ssl` where the usual form says `sslmode`
    query = urlencode([("ssl" if name == "sslmode" else name, value) for name, value in parse_qsl(parts.query)])
    return urlunsplit(("postgresql+asyncpg", parts.netloc, parts.path, query, ""))


def masked(address: str | None) -> str:
    """A database's address without its password."""
    if address is None:
        return "SQLite in the store"
    parts = urlsplit(address)
    user, _, place = parts.netloc.rpartition("@")
    shown = f"{user.split(':')[0]}:***@{place}" if ":" in user else parts.netloc
    query = "?***" if parts.query else ""
    return f"{parts.scheme.split('+')[0]}://{shown}{parts.path}{query}"


# -- what is recorded


def _read(home: Path) -> State:
    try:
        told = json.loads((home / "state.json").read_bytes())
        return State(**{name: told.get(name) for name in State.__dataclass_fields__} | {"token": str(told["token"])})
    except (FileNotFoundError, NotADirectoryError):
        return State(secrets.token_hex(8))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        path = home / "state.json"
        raise CurateError(f"{path} cannot be read ({error}); end what it names, if anything, and delete it") from error


def _write(home: Path, state: State) -> State:
    """Record it so that nobody else can read it, not even for a moment: it may hold a password."""
    path, temporary = home / "state.json", home / f".state-{secrets.token_hex(4)}"
    with disk.explain(path):
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump({"format": 1, **asdict(state)}, out, indent=1)
        os.replace(temporary, path)
    return state


@contextmanager
def _alone(home: Path, say: Say) -> Iterator[None]:
    """Be the only one that starts or stops services of this store."""
    with disk.explain(home):
        disk.make_folder(home)
        home.chmod(0o700)
        file = (home / "lock").open("a")
    with file:
        waited = False
        while not _locked(file, home):
            if not waited:
                say("another `curate up` or `curate down` works on this store: waiting for it")
                waited = True
            time.sleep(LOOK_SECONDS)
        yield


def _locked(file: Any, home: Path) -> bool:
    try:
        return try_lock(file)
    except NoLocks as error:
        raise CurateError(
            f"the disk of {home} knows no locks ({error}), and Prefect's database needs them, too; "
            "name a store on a local disk, or run a Prefect server elsewhere and set PREFECT_API_URL"
        ) from error


def recorded(state: State, role: Role, process: Process | None) -> State:
    """The state with another process as the server, or as the worker."""
    return replace(state, server=process) if role == "server" else replace(state, worker=process)


def _lives(process: Process | None) -> bool:
    return process is not None and alive.is_alive(process) is True


def _ours(state: State, role: Role) -> list[int]:
    return ours(f"{state.token}:{role}", getattr(state, role))


def _settled(home: Path, state: State) -> State:
    """Refuse if what is recorded may run on another machine."""
    for process in (state.server, state.worker):
        if process and alive.is_alive(process) is None and process.get("host") != socket.gethostname():
            raise UsageError(
                f"the services of this store were started on {process.get('host')}; use `curate down` there, "
                f"or delete {home / 'state.json'} if that machine is gone"
            )
    return state


def _wanted(state: State, port: int | None, database: str | None) -> State:
    """The state with what is asked for; refused where it contradicts what runs."""
    address = state.database if database is None else database_url(database)
    if _lives(state.server):
        if port not in (None, state.port):
            raise UsageError(f"the server of this store runs on port {state.port}; `curate down` first to change it")
        if address != state.database:
            raise UsageError(f"the server of this store runs on {masked(state.database)}; `curate down` first to change it")
    return replace(state, database=address)


def _told(home: Path, state: State, started: tuple[str, ...] = ()) -> Services:
    server, worker = _lives(state.server), _lives(state.worker)
    return Services(
        running=server and worker,
        api_url=state.url if server else None,
        ui_url=f"http://{HOST}:{state.port}" if server else None,
        server_pid=state.server["pid"] if server and state.server else None,
        worker_pid=state.worker["pid"] if worker and state.worker else None,
        database=masked(state.database),
        logs=str(home),
        started=started,
    )


# -- the server


def _with_server(home: Path, state: State, port: int | None, say: Say) -> tuple[State, tuple[str, ...]]:
    if _lives(state.server):
        _await(home, state, "server", say)
        return state, ()
    _end(state, "server", say)  # what a killed one left behind
    for candidate in _ports(state, port):
        if candidate != state.port:
            _end(state, "worker", say)  # it asks at the old address
        state = _write(home, replace(state, port=candidate, server=None))
        state = _start(home, state, "server", _server_command(candidate), _server_environment(home, state))
        with suppress(PortTaken):
            _await(home, state, "server", say)
            return state, ("server",)
        if port is not None:
            break
    wanted = f"port {port} is" if port is not None else f"all ports from {PORTS.start} to {PORTS.stop - 1} are"
    raise UsageError(f"{wanted} taken by another program; name a free one with --port")


def _ports(state: State, port: int | None) -> Iterator[int]:
    """Ports to try: the one asked for, or the one of last time and then any free one."""
    wanted = [port] if port is not None else [*([state.port] if state.port else []), *PORTS]
    for candidate in dict.fromkeys(wanted):
        if _free(candidate) or (candidate == state.port and _free_soon(candidate)):
            yield candidate


def _free_soon(port: int) -> bool:
    """Whether a port gets free: that of a server killed a moment ago takes a while."""
    deadline = time.monotonic() + PORT_SECONDS
    while not (free := _free(port)) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return free


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def _server_command(port: int) -> list[str]:
    return [sys.executable, "-m", "prefect", "--no-prompt", "server", "start", "--host", HOST, "--port", str(port)]


def environment(home: Path, url: str) -> dict[str, str]:
    """This one without its Prefect settings, and with those that keep Prefect quiet and in its place."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_") and name not in NOISY}
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST, "localhost"]))
    return own | {
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONUNBUFFERED": "1",
        "TERM": "dumb",
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_PROFILES_PATH": str(home / "prefect" / "profiles.toml"),
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_CLI_WRAP_LINES": "false",
        "PREFECT_LOGGING_COLORS": "false",
        "PREFECT_LOGGING_LEVEL": "INFO",
        **log_settings(),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL_SECONDS),
    }


def log_settings() -> dict[str, str]:
    """Variables that make Prefect's own lines look like those of runs: text, or JSON where CURATE_LOG_FORMAT says so."""
    if os.environ.get("CURATE_LOG_FORMAT") == "json":
        return {"PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json"}
    standard = "PREFECT_LOGGING_FORMATTERS_STANDARD_"
    return {
        standard + "FORMAT": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        standard + "FLOW_RUN_FMT": "%(asctime)s %(levelname)s flow run %(flow_run_name)s: %(message)s",
        standard + "TASK_RUN_FMT": "%(asctime)s %(levelname)s task run %(task_run_name)s: %(message)s",
        standard + "DATEFMT": TIMES,
    }


NOISY = ("FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS")


def _server_environment(home: Path, state: State) -> dict[str, str]:
    """The server's alone knows the database, so that neither worker nor runs see a password."""
    more = {
        "PREFECT_UI_API_URL": state.url,
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # what a run holds of a schedule's limit is given back even if the server was killed meanwhile
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    if state.database:
        more["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = state.database
    return environment(home, state.url) | more


class PortTaken(Exception):
    """Somebody else took the port while the server was starting."""


# -- the worker


def _with_worker(home: Path, state: State, say: Say) -> tuple[State, tuple[str, ...]]:
    if _lives(state.worker):
        return state, ()
    _end(state, "worker", say)  # runs of a killed one: nobody would hear of their end; the next run continues them
    name = f"{POOL}-{socket.gethostname()}-{secrets.token_hex(3)}"
    command = [sys.executable, "-m", "prefect", "--no-prompt", "worker", "start", "--pool", POOL, "--type", "process"]
    # runs are taken when they are due: those taken ahead would meet the one before them, and be cancelled
    command += ["--name", name, "--prefetch-seconds", "0", "--install-policy", "never"]
    state = _start(home, state, "worker", command, environment(home, state.url))
    _await(home, state, "worker", say, name)
    return state, ("worker",)


def tidy(state: State) -> int:
    """Settle what a server that ran without a worker still shows: runs under way have crashed, missed ones are dropped.

    Only called while no process of ours can be making a run. How many were dropped: of each schedule, all but the newest.
    """
    pool = {"work_pools": {"name": {"any_": [POOL]}}}
    busy = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
    under_way = _post(state, "/flow_runs/filter", pool | {"flow_runs": busy})
    for run in under_way:
        with suppress(CurateError):  # it is shown as running then; the store's own record tells the truth
            _settle(state, run)
    due = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": datetime.now(UTC).isoformat()}}
    late = _post(state, "/flow_runs/filter", pool | {"flow_runs": due, "sort": "EXPECTED_START_TIME_DESC", "limit": 200})
    newest: set[str] = set()
    dropped = 0
    for run in late:
        if not run["auto_scheduled"]:
            continue
        if run["deployment_id"] in newest:
            _call(state, f"/flow_runs/{run['id']}", method="DELETE")
            dropped += 1
        newest.add(run["deployment_id"])
    return dropped


def _settle(state: State, run: Mapping[str, Any]) -> None:
    """Tell the server that a run has crashed."""
    said = {"state": {"type": "CRASHED", "message": "its worker ended without a word; what it had done is kept"}, "force": True}
    try:
        _post(state, f"/flow_runs/{run['id']}/set_state", said)
    except CurateError:
        # the server fails to take back a place in the schedule's limit that was given back before: it is handed one
        limit = _call(state, f"/deployments/{run['deployment_id']}")["global_concurrency_limit"]
        _call(state, f"/v2/concurrency_limits/{limit['id']}", {"active_slots": 1}, "PATCH")
        _post(state, f"/flow_runs/{run['id']}/set_state", said)


# -- starting, waiting, ending


def _start(home: Path, state: State, role: Role, command: list[str], env: Mapping[str, str]) -> State:
    log = home / f"{role}.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        os.replace(log, log.with_suffix(".log.1"))
    disk.make_folder(home / "prefect")
    _write(home, state)  # the token first: what it marks is found even if this process dies before the next line
    pid = start(command, env, home / "prefect", log, f"{state.token}:{role}")
    return _write(home, recorded(state, role, identity(pid)))


def _await(home: Path, state: State, role: Role, say: Say, worker: str = "") -> None:
    """Wait until it answers."""
    began = told = time.monotonic()
    while not (_healthy(home, state) if role == "server" else _takes_runs(state, worker)):
        now = time.monotonic()
        if not _lives(getattr(state, role)):
            _failed(home, state, role, "ended right after its start")
        if now - began > START_SECONDS:
            _failed(home, state, role, f"does not answer after {START_SECONDS:.0f} s")
        if now - told >= TELL_SECONDS:
            told = now
            say(f"waiting for the {role}: {now - began:.0f} s")
        time.sleep(LOOK_SECONDS)


def _failed(home: Path, state: State, role: Role, how: str) -> None:
    log = home / f"{role}.log"
    tail = unveiled(state, _tail(log))
    _end(state, role, lambda _: None)
    _write(home, recorded(state, role, None))
    if role == "server" and IN_USE in tail:
        raise PortTaken
    raise CurateError(f"the {role} {how}. The end of {log}:\n{tail}")


def unveiled(state: State, text: str) -> str:
    """Text without the password of the database, however it is written there."""
    password = urlsplit(state.database or "").password
    for form in {password, unquote(password), quote(unquote(password), safe="")} if password else ():
        text = text.replace(form, "***")
    return text


def _tail(log: Path) -> str:
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in [line for line in lines if line.strip()][-TAIL_LINES:])
    return "  (nothing)"


def _end(state: State, role: Role, say: Say) -> None:
    """End a process and what it started: runs first, as Ctrl-C does, so that they write down where they stopped."""
    first = getattr(state, role)
    runs = groups(_ours(state, role)) - ({first["pid"]} if first else set())
    gentle = end(lambda: [pid for pid in _ours(state, role) if groups([pid]) & runs], GRACE_SECONDS, signal.SIGINT)
    if not end(lambda: _ours(state, role), GRACE_SECONDS) or not gentle:
        say(f"the {role} did not end within {GRACE_SECONDS:.0f} s and was killed")


# -- asking the server

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks this machine itself, whatever proxy the environment names."""


def _call(state: State, path: str, body: Any = None, method: str = "GET") -> Any:
    """What the server's API answers. While its database is busy it says so with a 503: then it is asked again for a while."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(state.url + path, content, {"Content-Type": "application/json"}, method=method)
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            with _direct.open(request, timeout=HANDOVER_SECONDS) as reply:
                return json.loads(reply.read() or b"null")
        except (OSError, ValueError) as error:
            busy = isinstance(error, urllib.error.HTTPError) and error.code == 503
            if not busy or time.monotonic() > deadline:
                raise CurateError(f"the Prefect server at {state.url} does not answer as it should: {error}") from error
            time.sleep(LOOK_SECONDS)


def _post(state: State, path: str, body: Any) -> Any:
    return _call(state, path, body, "POST")


def _healthy(home: Path, state: State) -> bool:
    """Whether this store's server answers there: another's may have taken the port a moment ago."""
    try:
        return _call(state, "/health") is True and Path(_call(state, "/admin/settings")["home"]) == home / "prefect"
    except (CurateError, KeyError, TypeError):
        return False


def _takes_runs(state: State, worker: str) -> bool:
    try:
        found = _post(state, f"/work_pools/{POOL}/workers/filter", {})
    except CurateError:  # the pool is made by its first worker
        return False
    return any(one["name"] == worker and one["status"] == "ONLINE" for one in found)
