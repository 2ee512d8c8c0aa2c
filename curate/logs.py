"""How a run tells what it does, line by line: plain, with times for a log that many runs share, or as JSON for a program."""

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from curate.models.session import Session
    from curate.models.spending import Statistics
    from curate.publish.version import Stage

LINE_SECONDS = 10.0  # a line on progress at most this often, so that a log stays readable

TIMES = "%Y-%m-%dT%H:%M:%S%z"
"""Times of a text log: the machine's own, with what they are off from UTC."""

LogFormat = Literal["plain", "text", "json"]
Event = Literal["started", "progress", "calls", "step", "said", "end"]


@dataclass(frozen=True)
class Line:
    """Something that happened in a run."""

    event: Event
    text: str
    """What happened, as a sentence."""
    step: str = ""
    level: Literal["info", "warning", "error"] = "info"
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The same as numbers, for programs."""


Emit = Callable[[Line], None]


def to_stderr(layout: Callable[[Line], str | None]) -> Emit:
    """Prints lines to standard error. A run does not end because nobody reads any more how it goes."""

    def emit(line: Line) -> None:
        if (text := layout(line)) is not None:
            with suppress(BrokenPipeError, ValueError):  # ValueError: the stream is closed
                sys.stderr.write(text + "\n")
                sys.stderr.flush()

    return emit


def plain(line: Line) -> str | None:
    """The sentence alone; that a step begins goes without saying where the next line tells that it is done."""
    from curate.publish.wording import visible

    if line.event == "started":
        return None
    if line.event == "step":
        return visible(f"{line.step:<18} {line.text}")
    return visible(f"{line.step}: {line.text}" if line.step else line.text)


@dataclass(frozen=True)
class Layout:
    """Lines of one run in a log that it shares with others."""

    run: str
    dataset: str

    def text(self, line: Line) -> str:
        """`2026-11-21T03:00:07+0000 INFO helpful-en 20261121T030002-1f0c9a judge: 4,000 in, 4,000 kept`."""
        from curate.publish.wording import one_line

        where = f"{line.step}: " if line.step else ""
        said = one_line(sentence(line.text), 2_000)
        return f"{now().astimezone():{TIMES}} {line.level.upper()} {self.dataset} {self.run} {where}{said}"

    def json(self, line: Line) -> str:
        """One JSON object: time, level, dataset, run, step, event, message and the numbers of the event."""
        about = {"time": f"{now():%Y-%m-%dT%H:%M:%S.%fZ}", "level": line.level, "dataset": self.dataset, "run": self.run}
        said = {"step": line.step or None, "event": line.event, "message": line.text}
        return json.dumps(about | said | dict(line.fields), default=str)

    def emitter(self, log_format: LogFormat) -> Emit:
        """Prints lines of that format."""
        return to_stderr({"plain": plain, "text": self.text, "json": self.json}[log_format])


def sentence(columns: str) -> str:
    """What stands in columns, parted by commas."""
    return re.sub(r" {2,}", ", ", columns.strip())


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


def stage_line(stage: "Stage", seconds: float, reused: bool) -> str:
    """What a step did in one line: rows in, kept, made, dropped and why, and how long it took."""
    from curate.publish.wording import one_line

    counts = stage.counts
    parts = [f"{counts['rows_in']:>9,} in", f"{counts['kept']:>9,} kept"]
    parts.append(f"{counts['made']:>9,} made" if counts["made"] is not None else " " * 14)
    parts.append("   done before" if reused else f"{seconds:>8.1f} s    ")
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in counts["dropped"].items())
    told = f"   dropped: {one_line(dropped, 200)}" if dropped else ""
    return f"{' '.join(parts)}{told}".rstrip()


def left(done: int, total: int | None, seconds: float) -> str:
    """Rows so far, rate and time left, as text."""
    rate = done / seconds if seconds > 0 else 0.0
    text = f"{done:,}" + (f" of {total:,}" if total else "") + f" rows, {rate:,.0f} rows/s"
    return text + (f", {max(total - done, 0) / rate:.0f} s left" if total and rate else "")


def calls_line(now: "Statistics") -> str:
    """How model calls stand: answered, from the ledger, rate, tokens, errors by kind, cost, time left."""
    parts = [f"{now.answered:,} answered", f"{now.from_ledger:,} from the ledger"]
    if now.waiting:
        parts += [f"{now.calls_a_second:,.1f} calls/s", f"{now.tokens_out_a_second:,.0f} tokens/s", f"{now.in_flight} in flight"]
    errors = ", ".join(f"{kind} {count:,}" for kind, count in now.errors.items())
    parts += [f"no answer: {errors}"] if errors else []
    parts += [f"{now.retries:,} retries"] if now.retries else []
    parts += [f"${now.cost_usd:,.4f}"] if now.cost_usd else []
    seconds = now.seconds_left() if now.waiting else None
    return ", ".join(parts + ([f"{seconds:,.0f} s left"] if seconds else []))


def calls_fields(now: "Statistics") -> dict[str, Any]:
    """How model calls stand, as numbers."""
    return {
        "answered": now.answered,
        "from_ledger": now.from_ledger,
        "errors": dict(now.errors),
        "retries": now.retries,
        "cost_usd": now.cost_usd,
    }


class Lines:
    """A Watch that tells what happens line by line."""

    tick_seconds = LINE_SECONDS

    def __init__(self, emit: Emit | None = None) -> None:
        self.emit = emit or to_stderr(plain)
        self.step, self.total, self.done = "", 0, 0
        self.began = self.spoke = time.monotonic()
        self.session: Session | None = None
        self._over = threading.Event()

    def calling(self, session: "Session") -> None:
        """Models are asked from here on: say now and then how that goes."""
        self.session = session
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while not self._over.wait(self.tick_seconds):
            if self.session and (now := self.session.statistics()[""]).waiting:
                self.calls(now)

    def calls(self, now: "Statistics") -> None:
        """How the calls stand."""
        self.emit(Line("calls", calls_line(now), self.step, fields=calls_fields(now)))

    def started(self, step: str, rows: int | None) -> None:
        """A step begins."""
        self.step, self.total, self.done = step, rows or 0, 0
        self.began = self.spoke = time.monotonic()
        self.emit(Line("started", "begins", step, fields={"rows": rows}))

    def advanced(self, rows: int) -> None:
        """Rows are done; say so now and then."""
        self.done += rows
        now = time.monotonic()
        if now - self.spoke >= LINE_SECONDS:
            self.spoke = now
            counts = {"done": self.done, "total": self.total or None}
            self.emit(Line("progress", left(self.done, self.total, now - self.began), self.step, fields=counts))

    def finished(self, stage: "Stage", seconds: float, reused: bool) -> None:
        """A step is done."""
        fields = {"operator": stage.kind, "seconds": round(seconds, 3), "reused": reused, **stage.counts}
        self.emit(Line("step", stage_line(stage, seconds, reused), stage.name, fields=fields))

    def said(self, text: str) -> None:
        """Something worth knowing."""
        self.emit(Line("said", text))

    def warned(self, text: str) -> None:
        """Something a person should look at."""
        self.emit(Line("said", text, level="warning"))

    def ended(self, text: str, failed: bool = False) -> None:
        """How the run ended."""
        self.emit(Line("end", text, level="error" if failed else "info"))

    def close(self) -> None:
        """Say what the calls came to."""
        if self.session and not self._over.is_set():
            self._over.set()
            now = self.session.statistics()[""]
            self.emit(Line("calls", f"model calls: {calls_line(now)}", fields=calls_fields(now)))
            for trouble in self.session.troubles():
                self.warned(trouble)
        self._over.set()
