"""In place of vLLM's worker: answers at once, writes a line to its log for each request, and dies when it is told to.

A request for `die` kills it once a file says that it has not died so often yet; `environment` is answered with the names of
its variables.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

import pyarrow as pa

from curate.models.vllm_worker import READY, TOLD

channel = socket.socket(fileno=int(sys.argv[1]))
out = channel.makefile("wb")
writer = pa.ipc.new_stream(out, TOLD)
asked = pa.ipc.open_stream(channel.makefile("rb"))
settings = json.loads(asked.read_next_batch().column("body")[0].as_py())
deaths = Path(settings["deaths"])


def tell(row: dict[str, object]) -> None:
    writer.write_batch(pa.RecordBatch.from_pylist([row], schema=TOLD))
    out.flush()


if "refuses" in settings:
    sys.stdout.write("a line of vLLM's log\n")
    sys.stdout.flush()
    tell({"id": READY, "error": settings["refuses"], "detail": "it cannot be loaded"})
    os._exit(1)
tell({"id": READY, "body": "{}"})
for batch in asked:
    for row in batch.to_pylist():
        sys.stdout.write(f"asked {row['body']}\n")
        sys.stdout.flush()
        if row["body"] == "die" and len(deaths.read_text()) < settings["most"]:
            with deaths.open("a") as note:
                note.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        tell({"id": row["id"], "body": json.dumps(sorted(os.environ)) if row["body"] == "environment" else row["body"].upper()})
