"""Tell whether a process that wrote something here still lives, on this machine or on another that shares the disk.

A process of this machine and process-number space is asked of the kernel: its number must be in use by the very process that
began when the record says, since numbers are used again. Of any other machine or container only signs of life tell: files it
refreshes every HEARTBEAT_SECONDS. Clocks of two machines may differ by minutes, so nobody's clock is compared with another's:
a file's time of change and the time of a file made just now both come from the shared disk.
"""

import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""Without a sign of life for that long, a process elsewhere is taken for dead: six heartbeats, and a network disk's caches."""
BEGAN_SLACK = 5.0  # seconds by which a start computed from the uptime and a wall clock that is set right may differ


@cache
def place() -> str:
    """Where process numbers mean the same: this start of this machine, and the container's own numbering if it has one."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # no /proc: the host's name alone
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def began(pid: int) -> str | None:
    """When a process began, to be compared with what the same call gave before; None if there is none, or it is a zombie."""
    try:
        # behind the name, which may hold anything: state, then 18 fields, then the start in ticks since the machine's
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZXx" else fields[19]
    except (OSError, IndexError):
        return None if Path("/proc/self/stat").exists() else _began_elsewhere(pid)


def _began_elsewhere(pid: int) -> str | None:
    """The same where there is no /proc."""
    told = subprocess.run(["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, start = told.stdout.strip().partition(" ")
    return start.strip() if start and not state.startswith("Z") else None


def this_process() -> dict[str, Any]:
    """What others need to know of this process: `host`, `place`, `pid` and `began`."""
    return {"host": socket.gethostname(), "place": place(), "pid": os.getpid(), "began": began(os.getpid())}


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether the process lives, of which `this_process` told; None where this machine cannot know."""
    pid = process.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return None
    if "place" not in process:  # recorded before places were
        return _pid_since(pid, process.get("started")) if process.get("host") == socket.gethostname() else None
    return began(pid) == process.get("began") is not None if process["place"] == place() else None


def _pid_since(pid: int, started: Any) -> bool:
    """Whether the number is in use by a process that began before `started` (unix seconds)."""
    start = began(pid)
    if start is None or not start.isdigit() or not isinstance(started, int | float):
        return start is not None
    with suppress(OSError, ValueError):
        up = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - up + int(start) / os.sysconf("SC_CLK_TCK") <= started + BEGAN_SLACK
    return True


def disk_time(folder: Path) -> float:
    """Now, as the disk's clock says: unix seconds; this machine's clock where nothing can be written."""
    probe = folder / f"now-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


class Pulse:
    """A thread that does something again and again, until stopped or the process ends; it goes on after errors of the disk."""

    def __init__(self, beat: Callable[[], None], seconds: float = HEARTBEAT_SECONDS) -> None:
        self._beat = beat
        self._seconds = seconds
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin; the first beat comes after one interval."""
        self._thread.start()

    def now(self) -> None:
        """Beat at once."""
        self._wake.set()

    def stop(self) -> None:
        """No more beats; one under way may still end."""
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._seconds)
            self._wake.clear()
            if self._stopped:
                return
            with suppress(Exception):  # a full disk passes, and whoever reads sees the last beat's time
                self._beat()
