"""Tell a person how a run goes: a live bar on a terminal, plain lines elsewhere."""

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import typer

from curate.cli.common import console

if TYPE_CHECKING:
    from rich.progress import TaskID

    from curate.models.session import Session
    from curate.models.spending import Statistics
    from curate.publish.version import Stage

LINE_SECONDS = 10.0  # a plain line at most this often, so that a log stays readable


def stage_line(stage: "Stage", seconds: float, reused: bool) -> str:
    """One step in one line: rows in, kept, made, dropped and why, and how long it took."""
    from curate.publish.wording import one_line

    counts = stage.counts
    parts = [f"{counts['rows_in']:>9,} in", f"{counts['kept']:>9,} kept"]
    parts.append(f"{counts['made']:>9,} made" if counts["made"] is not None else " " * 14)
    parts.append("   done before" if reused else f"{seconds:>8.1f} s    ")
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in counts["dropped"].items())
    told = f"   dropped: {one_line(dropped, 200)}" if dropped else ""
    return f"{stage.name:<18} {' '.join(parts)}{told}".rstrip()


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


class Lines:
    """Plain lines for logs and pipes."""

    tick_seconds = LINE_SECONDS

    def __init__(self) -> None:
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
        self.said(f"{self.step}: {calls_line(now)}")

    def started(self, step: str, rows: int | None) -> None:
        """A step begins."""
        self.step, self.total, self.done = step, rows or 0, 0
        self.began = self.spoke = time.monotonic()

    def advanced(self, rows: int) -> None:
        """Rows are done; say so now and then."""
        self.done += rows
        now = time.monotonic()
        if now - self.spoke >= LINE_SECONDS:
            self.spoke = now
            self.said(f"{self.step}: {left(self.done, self.total, now - self.began)}")

    def finished(self, stage: "Stage", seconds: float, reused: bool) -> None:
        """A step is done."""
        self.said(stage_line(stage, seconds, reused))

    def said(self, text: str) -> None:
        """Something worth knowing. A run does not end because nobody reads any more how it goes."""
        with contextlib.suppress(BrokenPipeError):
            typer.echo(text, err=True)

    def close(self) -> None:
        """Say what the calls came to."""
        if self.session and not self._over.is_set():
            self._over.set()
            self.said(f"model calls: {calls_line(self.session.statistics()[''])}")
            for trouble in self.session.troubles():
                self.said(trouble)
        self._over.set()


class Bar(Lines):
    """A live bar above the finished steps."""

    tick_seconds = 0.5

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__()
        self.console = console(stderr=True)
        self.progress: Progress = Progress(
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[left]}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self.progress.start()
        self.task: TaskID | None = None

    def started(self, step: str, rows: int | None) -> None:
        """A step begins: a fresh bar."""
        super().started(step, rows)
        self._clear()
        self.task = self.progress.add_task(step, total=rows, left="")

    def advanced(self, rows: int) -> None:
        """Move the bar."""
        self.done += rows
        if self.task is not None:
            text = left(self.done, self.total, time.monotonic() - self.began)
            self.progress.update(self.task, completed=self.done, left=text)

    def finished(self, stage: "Stage", seconds: float, reused: bool) -> None:
        """A step is done: its line takes the bar's place."""
        self._clear()
        super().finished(stage, seconds, reused)

    def said(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(text, soft_wrap=True)

    def calls(self, now: "Statistics") -> None:
        """How the calls stand, beside the bar."""
        if self.task is not None:
            self.progress.update(self.task, left=calls_line(now))

    def close(self) -> None:
        """Take the bar off the screen."""
        super().close()
        self._clear()
        self.progress.stop()

    def _clear(self) -> None:
        if self.task is not None:
            self.progress.remove_task(self.task)
            self.task = None


def watcher() -> Lines:
    """A live bar where somebody watches a terminal, plain lines otherwise."""
    return Bar() if console(stderr=True).is_terminal else Lines()
