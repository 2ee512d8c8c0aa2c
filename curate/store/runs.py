"""Past runs, as their records in the store tell; a run whose process is gone without a word has crashed."""

import json
import os
import socket
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def past_runs(root: Path) -> list[dict[str, Any]]:
    """Records of all runs, newest first."""
    records = []
    for path in (root / "runs").glob("*/run.json"):
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):
            record = {"id": path.parent.name, "state": "unreadable", "started": path.stat().st_mtime}
        if record["state"] == "running" and record["host"] == socket.gethostname() and not _alive(record["pid"]):
            record["state"] = "crashed"
        records.append(record)
    return sorted(records, key=lambda record: (record["started"], record["id"]), reverse=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def render(records: list[dict[str, Any]]) -> "Table":
    """The runs as a table for people."""
    from rich.table import Table

    table = Table("run", "dataset", "state", "started", "seconds", "result", box=None, pad_edge=False)
    for record in records:
        seconds = f"{record['ended'] - record['started']:,.1f}" if record.get("ended") else ""
        result = record.get("version") or record.get("error", "").splitlines()[0:1]
        text = result if isinstance(result, str) else "".join(result)
        if record.get("version") and not record.get("published"):
            text += " (unchanged)"
        started = f"{datetime.fromtimestamp(record['started']):%Y-%m-%d %H:%M:%S}"
        table.add_row(record["id"], record.get("name", ""), record["state"], started, seconds, text)
    return table
