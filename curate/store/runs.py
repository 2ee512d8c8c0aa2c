"""Records of runs, which tell at any time how a run goes; a run whose process is gone without a word has crashed.

runs/<id>/run.json     refreshed every few seconds while the run goes on, and when its step changes
"""

import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from curate.errors import Busy, GateClosed
from curate.ids import canonical_json
from curate.store import alive, disk
from curate.store.alive import HEARTBEAT_SECONDS, STALE_SECONDS
from curate.store.locks import claim

__all__ = ["ENDED", "HEARTBEAT_SECONDS", "STALE_SECONDS", "RunRecord", "claim", "past_run", "past_runs"]

Ended = Literal["done", "unchanged", "skipped", "gate_closed", "failed", "interrupted"]
ENDED: tuple[Ended, ...] = ("done", "unchanged", "skipped", "gate_closed", "failed", "interrupted")
"""How a run may end: published; nothing new to publish; stepped aside; not published for a gate; failed; stopped."""
GOING = ("waiting", "running")


class RunRecord:
    """The record of one run, as a context or by `start` and `end`.

    Only `start` raises when the disk cannot be written; later the run goes on, and the reason of its failure is not hidden.
    """

    def __init__(
        self,
        root: Path,
        id: str,
        name: str,
        recipe: str | Path | None = None,
        limit: int | None = None,
        *,
        via: Literal["inline", "prefect"] = "inline",
        flow_run_id: str | None = None,
        schedule: str | None = None,
        seconds: float = HEARTBEAT_SECONDS,
        **more: Any,
    ) -> None:
        self.id = id
        self.path = root / "runs" / id / "run.json"
        self._scratch = root / "tmp"
        about = {"id": id, "name": name, "recipe": None if recipe is None else str(recipe), "limit": limit}
        told = {"via": via, "flow_run_id": flow_run_id, "schedule": schedule}
        self._fields = about | told | {"state": "running", "ended": None, "step": None, "rows": None, "kept": None} | more
        self._pulse = alive.Pulse(self._refresh, seconds)
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # held while the disk is waited for, which the run itself need not do

    @property
    def state(self) -> str:
        """waiting, running, or how it ended."""
        return str(self._fields["state"])

    @property
    def fields(self) -> dict[str, Any]:
        """What the record says right now."""
        with self._lock:
            return dict(self._fields)

    def start(self) -> "RunRecord":
        """Write the record and keep it fresh until `end`."""
        now = time.time()
        self._fields |= alive.this_process() | {"started": now, "heartbeat": now}
        disk.make_folder(self.path.parent)
        with disk.explain(self.path):
            disk.refresh_file(self.path, self._content(), disk.make_folder(self._scratch))
        self._pulse.start()
        return self

    def wait(self, why: str) -> None:
        """The run waits; for what, `why` tells. To be given to `claim` as on_wait."""
        self._set("waiting", waits_for=why)

    def go_on(self) -> None:
        """The run waits no longer."""
        if self.state == "waiting":
            self._set("running", waits_for=None)

    def at(self, step: str, rows: int | None = None, kept: int | None = None) -> None:
        """How far the run is: rows the step is done with, and kept. Cheap: a thread writes it, at once for another step."""
        with self._lock:
            new = step != self._fields["step"]
            self._fields |= {"step": step, "rows": rows, "kept": kept}
        if new:
            self._pulse.now()

    def end(self, state: Ended, **more: Any) -> None:
        """Write how the run ended, if nobody did: more tells the `version`, or the `error`. Never raises."""
        self._pulse.stop()
        with self._lock:
            if self.state not in GOING:
                return
            now = time.time()
            self._fields |= {"state": state, "ended": now, "heartbeat": now, "waits_for": None} | more
        with self._writing, suppress(Exception):  # a full disk must not hide the reason
            disk.refresh_file(self.path, self._content(), self._scratch)

    def __enter__(self) -> "RunRecord":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.end("done")
        elif isinstance(error, KeyboardInterrupt):
            self.end("interrupted")
        elif isinstance(error, GateClosed):
            self.end("gate_closed", error=str(error), gates=[result.row() for result in error.results])
        else:
            self.end("skipped" if isinstance(error, Busy) and error.stepped_aside else "failed", error=str(error))

    def _set(self, state: str, **more: Any) -> None:
        with self._lock:
            if self.state in GOING:
                self._fields |= {"state": state} | more
        self._pulse.now()

    def _refresh(self) -> None:
        with self._writing:
            with self._lock:
                if self.state not in GOING:
                    return
                self._fields["heartbeat"] = time.time()
                content = self._content()
            disk.refresh_file(self.path, content, self._scratch)

    def _content(self) -> bytes:
        return canonical_json({key: value for key, value in self._fields.items() if key != "waits_for" or value}).encode()


def past_runs(root: Path) -> list[dict[str, Any]]:
    """Records of all runs, newest first. A crashed one has `crashed_at`: its last sign of life, unix seconds, if it gave any.

    A run of this machine crashed if its process is gone; one from elsewhere, if its record was not refreshed for
    STALE_SECONDS of the disk's own clock. Should it come back, it is running again: nothing is written here.
    """
    now: list[float] = []
    records = [_judged(root, path, _read(path), now) for path in (root / "runs").glob("*/run.json")]
    return sorted(records, key=lambda record: (record["started"], record["id"]), reverse=True)


def past_run(root: Path, id: str) -> dict[str, Any] | None:
    """The record of one run; None if there is none."""
    path = root / "runs" / id / "run.json"
    return _judged(root, path, _read(path), []) if Path(id).name == id and path.exists() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        if isinstance(record["started"], int | float) and isinstance(record["state"], str):
            return dict(record) | {"id": path.parent.name}
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return {"id": path.parent.name, "state": "unreadable", "started": path.stat().st_mtime}


def _judged(root: Path, path: Path, record: dict[str, Any], now: list[float]) -> dict[str, Any]:
    """The record, its state crashed if that is so. now: the disk's time, asked once, when it is needed."""
    if record["state"] not in GOING or not _crashed(root, path, record, now):
        return record
    last = record.get("heartbeat")
    return record | {"state": "crashed"} | ({"crashed_at": last} if last else {})


def _crashed(root: Path, path: Path, record: Mapping[str, Any], now: list[float]) -> bool:
    lives = alive.is_alive(record)
    if lives is not None:
        return not lives
    if "heartbeat" not in record:  # recorded before there were any: nothing tells
        return False
    if not now:
        now.append(alive.disk_time(root / "tmp"))
    with suppress(OSError):
        return now[0] - path.stat().st_mtime > STALE_SECONDS
    return False
