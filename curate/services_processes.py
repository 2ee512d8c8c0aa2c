"""Processes that outlive the command that starts them: started apart from it, told from strangers, ended as one.

Each gets a session of its own and a mark in its environment, which what it starts inherits: so a process is known for one of
ours by what the kernel says of it, never by its number alone, which is used again, nor by its name.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from curate.store import alive

MARK = "CURATE_SERVICE"
POLL_SECONDS = 0.1


def start(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path, mark: str) -> int:
    """Start a command in a session of its own, in `folder`, its output appended to `log`; its process number."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            command,
            env={**environment, MARK: mark},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    _started.append(process)
    return process.pid


_started: list["subprocess.Popen[bytes]"] = []
"""Kept because Python takes a child that is forgotten while it lives for a mistake."""


def identity(pid: int) -> dict[str, Any]:
    """What tells that very process from a later one of the same number."""
    return alive.this_process() | {"pid": pid, "began": alive.began(pid)}


def marked(mark: str) -> list[int]:
    """Processes of this user that carry a mark: what was started with it, and what that started. None without /proc."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or another user's
            if folder.stat().st_uid == os.getuid() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [pid for pid in found if alive.began(pid) is not None]


def ours(mark: str, leader: Mapping[str, Any] | None) -> list[int]:
    """Living processes that carry the mark, and the recorded first one if it is still that one."""
    lives = [leader["pid"]] if leader and alive.is_alive(leader) else []
    return sorted({*marked(mark), *lives})


def groups(pids: Sequence[int]) -> set[int]:
    """Process groups of processes, without the one that this command runs in."""
    found = set()
    for pid in pids:
        with suppress(ProcessLookupError):
            found.add(os.getpgid(pid))
    return found - {os.getpgrp()}


def end(find: Callable[[], Sequence[int]], grace: float, ask: signal.Signals = signal.SIGTERM) -> bool:
    """End the processes that `find` finds: asked once, and after `grace` seconds forced. Whether they ended when asked."""
    deadline = time.monotonic() + grace
    asked: set[int] = set()
    while left := groups(find()):
        if time.monotonic() >= deadline:
            _signal(left, signal.SIGKILL)
            _wait(find, grace)
            return False
        # a second request would make Prefect's worker drop everything
        _signal(left - asked, ask)
        asked |= left
        time.sleep(POLL_SECONDS)
    return True


def _wait(find: Callable[[], Sequence[int]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while groups(find()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _signal(found: set[int], number: signal.Signals) -> None:
    for group in found:
        with suppress(ProcessLookupError):
            os.killpg(group, number)
