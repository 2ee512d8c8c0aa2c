"""A vLLM worker seen from curate's process: started when it is first asked, restarted once if it dies, ended with the step.

What is asked is kept until it is answered, so a worker that dies takes nothing with it: a fresh one is asked what is left.
At most one engine is loaded at a time, unless all of them say that they fit beside each other.
"""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.errors import CurateError

PACKAGE = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("vllm_worker.py")
ASKED = pa.schema({"id": pa.int64(), "kind": pa.string(), "body": pa.string()})
READY = -1
RESTARTS = 1
"""How often an engine that died is started anew, until it is given up."""
END_SECONDS = 10.0
"""How long a worker may take to end by itself; then it is killed."""
IDLE_SECONDS = 1.0
"""An engine that was asked nothing for so long makes room for another."""
LOG_BYTES = 20_000
TAIL_LINES = 12
OWN_SETTINGS = {
    "PYTHONSAFEPATH": "1",  # the worker's folder holds modules named like those of the standard library
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
LEFT_OUT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
SECRET = ("_API_KEY", "_SECRET", "_PASSWORD")

Told = Callable[[Mapping[str, Any]], None]
"""Who is told a row of the worker: `body`, `values`, `cut`, or `error` and `detail`."""


class Residence:
    """Which engines of this process are loaded."""

    def __init__(self) -> None:
        self._there: list[Engine] = []
        self._moved = threading.Lock()

    def enter(self, engine: "Engine") -> None:
        """Wait until there is room, ending engines that are idle."""
        while (other := self._enters(engine)) is not None:
            if not other.rest(IDLE_SECONDS):
                time.sleep(0.1)

    def leave(self, engine: "Engine") -> None:
        """The engine is gone, and its memory free."""
        with self._moved:
            self._there = [other for other in self._there if other is not engine]

    def _enters(self, engine: "Engine") -> "Engine | None":
        """None: it is in; otherwise an engine that is in its way."""
        with self._moved:
            others = [other for other in self._there if other is not engine]
            in_the_way = next((other for other in others if not other.fits(engine)), None)
            if in_the_way is None:
                self._there = [*others, engine]
            return in_the_way


RESIDENCE = Residence()


class Worker:
    """One process. Raises OSError where it cannot be started."""

    def __init__(self, python: Path, settings: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        ours, its = socket.socketpair()
        kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT and not name.endswith(SECRET)}
        try:
            with its:
                self.process = subprocess.Popen(
                    [python, WORKER, str(its.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=self.log,
                    stderr=self.log,
                    pass_fds=(its.fileno(),),
                    env=kept | OWN_SETTINGS | dict(variables),
                    start_new_session=True,  # Ctrl-C is ours to handle; its own processes can be ended with it
                )
        except OSError:
            ours.close()
            self.log.close()
            raise
        self._socket = ours
        self._out = ours.makefile("wb")
        self._writer = pa.ipc.new_stream(self._out, ASKED)
        threading.Thread(target=self._reap, name="curate-vllm-reaper", daemon=True).start()
        with suppress(OSError):  # it may be dead by now, as whoever reads will find
            self.send([(READY, "settings", json.dumps(settings))])

    def send(self, rows: Sequence[tuple[int, str, str]]) -> None:
        """Ask; OSError if it is gone."""
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), ASKED, strict=True)]
        self._writer.write_batch(pa.record_batch(columns, schema=ASKED))
        self._out.flush()

    def rows(self) -> Any:
        """What it tells, a list of rows at a time, until it ends."""
        with suppress(OSError, pa.ArrowInvalid), self._socket.makefile("rb") as source:
            for batch in pa.ipc.open_stream(source):
                yield batch.to_pylist()

    def _reap(self) -> None:
        """When it is dead, so are the processes of its group, and whoever reads is told."""
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        self.kill()
        self.process.wait()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """End it and its own processes at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self, seconds: float = END_SECONDS) -> None:
        """Let it end, and wait until it and all it held is gone."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()
        self.process.wait()
        with suppress(OSError):
            self._out.close()
        self._socket.close()

    def last_words(self) -> str:
        """The tail of its log."""
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(size - LOG_BYTES, 0))
        lines = [line.strip() for line in self.log.read().decode(errors="replace").splitlines()]
        return "\n".join([line for line in lines if line][-TAIL_LINES:])


class Pending:
    """A request without an answer."""

    __slots__ = ("kind", "body", "told")

    def __init__(self, kind: str, body: str, told: Told) -> None:
        self.kind = kind
        self.body = body
        self.told = told


class Engine:
    """A model behind a worker. From any thread.

    python: finds the interpreter when it is needed. settings: what the worker is told. fits_beside: whether it may be loaded
    while others are that say so, too. group: copies of one model, which are loaded together.
    """

    def __init__(
        self,
        name: str,
        python: Callable[[], Path],
        settings: Mapping[str, Any],
        *,
        fits_beside: bool = False,
        group: object = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.settings = {**settings, "package": str(PACKAGE)}
        self.fits_beside = fits_beside
        self._group = self if group is None else group
        self.starts = 0
        """Workers started so far."""
        self._python = python
        self._variables = dict(variables or {})
        self._state = threading.Condition()
        self._pending: dict[int, Pending] = {}
        self._outbox: list[int] = []
        self._number = 0
        self._worker: Worker | None = None
        self._thread: threading.Thread | None = None
        self._resting = False
        self._failed: str | None = None
        self._used = 0.0

    def __repr__(self) -> str:
        return f"Engine({self.name}, {'loaded' if self.pid else 'not loaded'}, {len(self._pending)} asked)"

    def fits(self, other: "Engine") -> bool:
        """Whether both may be loaded at once."""
        return self._group is other._group or (self.fits_beside and other.fits_beside)

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return len(self._pending)

    @property
    def pid(self) -> int | None:
        """The worker's process; None while there is none."""
        worker = self._worker
        return worker.process.pid if worker is not None and worker.process.poll() is None else None

    def ask(self, kind: str, body: str, told: Told) -> int:
        """Ask something; `told` is called once, from another thread. A number to forget it by."""
        with self._state:
            self._number += 1
            number, self._used = self._number, time.monotonic()
            if self._failed is None:
                self._pending[number] = Pending(kind, body, told)
                self._outbox.append(number)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._live, name=f"curate-vllm {self.name}", daemon=True)
                    self._thread.start()
                self._state.notify_all()
                return number
        told({"error": "engine", "detail": self._failed})
        return number

    def forget(self, number: int) -> None:
        """Nobody waits for this any more; what it brings is dropped."""
        with self._state:
            self._pending.pop(number, None)

    def rest(self, idle: float = 0.0) -> bool:
        """End the worker, unless it is at work or was within the last seconds; whether it is gone. It may be asked again."""
        with self._state:
            self._failed = None
            if self._thread is None:
                return True
            if self._pending or time.monotonic() - self._used < idle:
                return False
        self._end()
        return True

    def close(self) -> None:
        """End the worker, whatever it does."""
        with self._state:
            self._pending.clear()
        self._end(1.0)

    def _end(self, seconds: float = END_SECONDS) -> None:
        with self._state:
            thread, worker = self._thread, self._worker
            self._resting = True
            self._state.notify_all()
        if worker is not None:
            worker.end(seconds)
        if thread is not None and thread is not threading.current_thread():
            thread.join(END_SECONDS)

    # -- the thread that a worker's life is spent in

    def _live(self) -> None:
        """Start a worker, ask it, and start another if it dies; then say that there is room again."""
        RESIDENCE.enter(self)
        try:
            fault = self._lives()
        except (CurateError, OSError) as problem:
            fault = str(problem)
        except BaseException as problem:
            fault = f"{type(problem).__name__}: {problem}"
            raise
        finally:
            RESIDENCE.leave(self)
            self._over(fault)

    def _lives(self) -> str | None:
        """Why the engine was given up; None if it was ended."""
        for life in range(RESTARTS + 1):
            with self._state:
                if self._resting:
                    return None
                self._outbox = sorted(self._pending)
                self.starts += 1
            worker = Worker(self._python(), self.settings, self._variables)
            with self._state:
                self._worker = worker
            listener = threading.Thread(target=self._listen, args=(worker,), name=f"curate-vllm {self.name} in", daemon=True)
            listener.start()
            refused = self._feed(worker, listener)
            worker.end(END_SECONDS if self._resting else 0.5)
            listener.join()
            with worker.log:
                words = worker.last_words()
            with self._state:
                if self._resting:
                    return None
            if refused is not None:
                return refused if self._explained else f"{refused}\n{words}"
            if life == RESTARTS:
                return f"the engine died twice, the last time with {ending(worker.process.returncode)}:\n{words}"
        return None

    def _feed(self, worker: Worker, listener: threading.Thread) -> str | None:
        """Send what is asked as it is asked, until the worker ends; why it refused to load the model, if it did."""
        self._refused: str | None = None
        self._explained = False
        while listener.is_alive() and not self._resting:
            with self._state:
                if not self._outbox:
                    self._state.wait(0.2)
                numbers, self._outbox = self._outbox, []
                rows = [(n, self._pending[n].kind, self._pending[n].body) for n in numbers if n in self._pending]
            if rows:
                try:
                    worker.send(rows)
                except (OSError, ValueError):  # it is gone: what is pending goes to the next one
                    break
        return self._refused

    def _listen(self, worker: Worker) -> None:
        for rows in worker.rows():
            for row in rows:
                if row["id"] == READY:
                    self._refused, self._explained = row["detail"], row["error"] == "request"
                    continue
                with self._state:  # before anybody is told: with its last answer a step is over, and the engine may rest
                    pending = self._pending.pop(row["id"], None)
                if pending is not None:
                    pending.told(row)
            with self._state:
                self._used = time.monotonic()
                self._state.notify_all()

    def _over(self, fault: str | None) -> None:
        """No worker any more: what came meanwhile starts the next one, or is told why there will be none."""
        with self._state:
            self._thread, self._worker = None, None
            resting, self._resting = self._resting, False
            left = [] if resting and fault is None else list(self._pending.values())
            if left or fault is not None:
                self._failed = fault or "the engine was ended"
                self._pending.clear()
            elif self._pending:
                self._thread = threading.Thread(target=self._live, name=f"curate-vllm {self.name}", daemon=True)
                self._thread.start()
        for pending in left:
            pending.told({"error": "engine", "detail": self._failed})


def ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None or code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
