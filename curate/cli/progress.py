"""A live bar where somebody watches a terminal, lines elsewhere."""

import time
from typing import TYPE_CHECKING

from curate.cli.common import console
from curate.logs import Line, Lines, calls_line, left, plain

if TYPE_CHECKING:
    from rich.progress import TaskID

    from curate.models.spending import Statistics
    from curate.publish.version import Stage


class Bar(Lines):
    """A live bar below the finished steps."""

    tick_seconds = 0.5

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__(self._print)
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

    def calls(self, now: "Statistics") -> None:
        """How the calls stand, beside the bar."""
        if self.task is not None:
            self.progress.update(self.task, left=calls_line(now))

    def close(self) -> None:
        """Take the bar off the screen."""
        super().close()
        self._clear()
        self.progress.stop()

    def _print(self, line: Line) -> None:
        if (text := plain(line)) is not None:
            self.console.print(text, soft_wrap=True)

    def _clear(self) -> None:
        if self.task is not None:
            self.progress.remove_task(self.task)
            self.task = None


def watcher() -> Lines:
    """A live bar where somebody watches a terminal, plain lines otherwise."""
    return Bar() if console(stderr=True).is_terminal else Lines()
