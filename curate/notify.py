"""Tell a command how a run ended: `curate run --notify 'COMMAND'`, or CURATE_NOTIFY.

The command gets the event as JSON on its standard input, and in its environment CURATE_EVENT, CURATE_DATASET, CURATE_VERSION
and CURATE_STATE. It is never taken from a recipe: recipes are shared like data, and whoever runs one would run its command.
No shell reads it. That it fails, or takes too long, is a warning; the run ended before and stays as it is.
"""

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, Literal

Event = Literal["published", "unchanged", "gate_closed", "failed", "interrupted"]

LOG = logging.getLogger(__name__)
TIMEOUT_SECONDS = 30.0
LONGEST_OUTPUT = 2_000  # characters of what the command says that go to the log: its last ones
SHORTEST_SECRET = 8  # shorter values of such variables ("true", "none") are words of any text
SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
EVENTS: dict[str, Event] = {
    "done": "published",
    "unchanged": "unchanged",
    "gate_closed": "gate_closed",
    "failed": "failed",
    "interrupted": "interrupted",
}
TOLD = ("run", "state", "dataset", "version", "recipe", "started", "ended", "host", "via", "schedule", "step", "error", "gates")


def event_of(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is told of a run, from its record: the event and TOLD, null where there is none.

    None where there is nothing to tell: the run made a preview, stepped aside or has not ended. gates: the closed ones.
    """
    event = EVENTS.get(str(record["state"]))
    if event is None or record.get("limit") is not None:
        return None
    known = dict(record) | {"run": record["id"], "dataset": record.get("name")}
    return {"event": event} | {key: known.get(key) for key in TOLD}


def notify(
    command: str | None,
    event: Mapping[str, Any] | None,
    say: Callable[[str], None] = LOG.warning,
    seconds: float = TIMEOUT_SECONDS,
) -> None:
    """Run the command if there is one, and wait until it ends, `seconds` at most; secrets in the event are masked.

    say: told what the command printed, and why it failed.
    """
    if not command or event is None:
        return
    told = masked(event)
    try:
        words = shlex.split(command)
        if words:
            _run(words, told, say, seconds)
    except (OSError, ValueError) as error:  # not found, not executable; quotes that do not match, a NUL
        say(masked(f"warning: the command told by --notify could not run: {error}"))


def masked(value: Any) -> Any:
    """The value without values of environment variables that are named like secrets, and without what looks like a key."""
    from curate.models.transport import Secrets

    secrets = Secrets([text for name, text in os.environ.items() if SECRET_NAME.search(name) and len(text) >= SHORTEST_SECRET])
    return _masked(value, lambda text: "\n".join(map(secrets.hide, text.split("\n"))))


def _masked(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {str(key): _masked(entry, hide) for key, entry in value.items()}
    return [_masked(entry, hide) for entry in value] if isinstance(value, list | tuple) else value


def _run(words: list[str], event: Mapping[str, Any], say: Callable[[str], None], seconds: float) -> None:
    named = {"CURATE_EVENT": "event", "CURATE_DATASET": "dataset", "CURATE_VERSION": "version", "CURATE_STATE": "state"}
    environment = {name: str(event.get(key) or "").replace("\0", "") for name, key in named.items()}
    with _somewhere() as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,  # so that all it starts can be ended with it, and Ctrl-C is not its concern
        )
        try:
            process.communicate(json.dumps(event, default=str).encode(), seconds)
            problem = f"ended with {process.returncode}" if process.returncode else None
        except subprocess.TimeoutExpired:
            problem = f"took longer than {seconds:g} s and was ended"
        finally:
            _end(process)
        if said := _printed(output):
            say(masked(f"notify: {said}"))
        if problem:
            say(f"warning: the command told by --notify {problem}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it and what it started, if it did not end by itself."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


@contextmanager
def _somewhere() -> Any:
    """Where the command prints to: no pipe, which a process that it leaves behind would keep open; nowhere on a full disk."""
    try:
        file: IO[bytes] | int = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError:
        file = subprocess.DEVNULL
    try:
        yield file
    finally:
        if not isinstance(file, int):
            file.close()


def _printed(output: IO[bytes] | int) -> str:
    if isinstance(output, int):
        return ""
    output.seek(max(0, output.seek(0, os.SEEK_END) - 4 * LONGEST_OUTPUT))
    return output.read().decode(errors="replace").strip()[-LONGEST_OUTPUT:]
