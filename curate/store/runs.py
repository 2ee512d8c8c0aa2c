"""Past runs, as their records in the store tell; a run whose process is gone without a word has crashed."""

import json
import os
import socket
from pathlib import Path
from typing import Any


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
