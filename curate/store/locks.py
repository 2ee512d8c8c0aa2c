"""One run of a dataset at a time: a lock that the kernel gives back when its process dies, however it dies.

runs/<name>.lock     locked by the run that makes the dataset; tells who that is. The file stays, the lock goes
runs/<name>.lease    instead, on disks without locks: there while the run goes on, and refreshed so that a dead one shows
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from curate.errors import Busy
from curate.ids import canonical_json
from curate.store import alive, disk

IfBusy = Literal["wait", "step_aside", "refuse"]

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
LOOK_SECONDS = 0.2  # between two looks at a lock that another holds: a start delayed by that much is not noticed
LONGEST_NAME = 100  # characters of a dataset's name in that of its lock


class NoLocks(Exception):
    """The disk knows no locks, as some network disks do not."""


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file for this process alone, until it is closed or the process ends; False if another has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise NoLocks(str(error)) from error
        raise
    return True


@dataclass(frozen=True)
class Holder:
    """Who makes a dataset right now; what is not known is None."""

    run: str | None = None
    host: str | None = None
    pid: int | None = None
    since: float | None = None
    """Unix seconds."""
    place: str | None = None
    began: str | None = None
    token: str | None = None
    """Tells one lease from the next."""

    def __str__(self) -> str:
        parts = [f"run {self.run}" if self.run else "another run"]
        parts += [f"on {self.host}"] if self.host else []
        parts += [f"process {self.pid}"] if self.pid else []
        parts += [f"since {datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M:%S} UTC"] if self.since else []
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @staticmethod
    def read(path: Path) -> "Holder":
        """The holder that a file names; nothing known of it while the file is empty or being written."""
        try:
            told = json.loads(path.read_bytes())
            return Holder(**{key: told.get(key) for key in Holder.__dataclass_fields__})
        except (OSError, ValueError, AttributeError):
            return Holder()


_held: dict[str, Holder] = {}
"""By path: what this process holds. On network disks a kernel's locks may not tell threads of one process apart."""
_guard = threading.Lock()


@contextmanager
def claim(
    root: Path,
    name: str,
    busy: IfBusy = "wait",
    on_wait: Callable[[str], None] = lambda _: None,
    *,
    run: str | None = None,
    preview: bool = False,
    seconds: float = alive.HEARTBEAT_SECONDS,
) -> Iterator[None]:
    """Make the dataset `name` alone. Runs of other names, and previews of this one, have claims of their own.

    busy: what to do while another run has it: wait, or raise Busy, which tells whether to take it as stepping aside.
    on_wait: told who has it once waiting begins, and again when that is another one. run: id of the run that claims.
    seconds: how often a lease is refreshed, where the disk knows no locks.
    """
    path = lock_path(root, name, preview)
    mine = Holder(run=run, since=time.time(), token=uuid.uuid4().hex, **alive.this_process())
    told: Holder | None = None
    while isinstance(taken := _take(path, mine, seconds), Holder):
        if busy != "wait":
            raise Busy(_refusal(name, taken, busy), taken.to_json(), stepped_aside=busy == "step_aside")
        if taken != told and (taken.token or told is None):
            told = taken
            on_wait(f"waiting: {taken}, is making {name}; this run goes on when that one ends")
        time.sleep(LOOK_SECONDS)
        mine = replace(mine, since=time.time())
    try:
        yield
    finally:
        taken()


def lock_path(root: Path, name: str, preview: bool = False) -> Path:
    """The file that is locked for a dataset, or for previews of it."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:LONGEST_NAME].lstrip(".")
    if safe != name:
        safe = f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return root / "runs" / (f"{safe}~preview.lock" if preview else f"{safe}.lock")


def _refusal(name: str, holder: Holder, busy: IfBusy) -> str:
    what = "this run steps aside" if busy == "step_aside" else "one run of a dataset goes at a time; run again when it ended"
    return f"{name} is being made by {holder}; {what}"


def _take(path: Path, mine: Holder, seconds: float) -> Holder | Callable[[], None]:
    """What gives the claim back, or who has it."""
    key = os.path.realpath(path)
    with _guard:
        known = _held.get(key)
        if known is not None and known.pid == os.getpid():  # else what a parent held when it forked this process
            return known
        _held[key] = mine
    release: Holder | Callable[[], None] | None = None
    try:
        with disk.explain(path):
            disk.make_folder(path.parent)
            release = _lock(path, mine, seconds)
    finally:
        if release is None or isinstance(release, Holder):
            _held.pop(key, None)
    if isinstance(release, Holder):
        return release
    give_back = release

    def let_go() -> None:
        try:
            give_back()
        finally:
            _held.pop(key, None)

    return let_go


def _lock(path: Path, mine: Holder, seconds: float) -> Holder | Callable[[], None]:
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
    try:
        if not try_lock(file):
            file.close()
            return Holder.read(path)
    except NoLocks:
        file.close()
        return _lease(path.with_suffix(".lease"), mine, seconds)
    except BaseException:
        file.close()
        raise
    _say(file, canonical_json(mine.to_json()).encode())

    def let_go() -> None:
        _say(file, b"")
        file.close()

    return let_go


def _say(file: IO[bytes], content: bytes) -> None:
    with suppress(OSError):  # a full disk: the lock holds, only nobody learns whose it is
        file.truncate(0)
        file.seek(0)
        file.write(content)


# -- without locks


def _lease(path: Path, mine: Holder, seconds: float) -> Holder | Callable[[], None]:
    """Make a file that only one can make, and keep refreshing it; one whose maker died is taken away first."""
    if (holder := _leased(path)) is not None:
        return holder
    temporary = path.with_name(f".{path.name}-{mine.token}")
    try:
        temporary.write_bytes(canonical_json(mine.to_json()).encode())
        os.link(temporary, path)  # fails if the file is there, on network disks too, and it is never seen half written
    except FileExistsError:
        return Holder.read(path)
    finally:
        temporary.unlink(missing_ok=True)

    def refresh() -> None:
        if Holder.read(path).token == mine.token:
            os.utime(path)

    pulse = alive.Pulse(refresh, seconds)
    pulse.start()

    def let_go() -> None:
        pulse.stop()
        if Holder.read(path).token == mine.token:
            path.unlink(missing_ok=True)

    return let_go


def _leased(path: Path) -> Holder | None:
    """Who has a lease and lives."""
    holder = Holder.read(path)
    if holder.token is None or not _gone(path, holder.to_json()):
        return None if holder.token is None else holder
    # two may find it dead at once: the one that moves it away makes sure that it moved the dead one's
    moved = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        os.rename(path, moved)
        if Holder.read(moved).token != holder.token:
            with suppress(FileExistsError):
                os.link(moved, path)
        moved.unlink(missing_ok=True)
    return None


def _gone(path: Path, process: Mapping[str, Any]) -> bool:
    lives = alive.is_alive(process)
    if lives is not None:
        return not lives
    with suppress(FileNotFoundError):
        return alive.disk_time(path.parent) - path.stat().st_mtime > alive.STALE_SECONDS
    return True
