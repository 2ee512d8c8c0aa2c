"""Every error a user can meet.

CurateError
├── UsageError            the call itself is wrong (exit 2)
│   ├── RecipeError       a recipe that cannot run; lists every problem found
│   └── UnknownName       a version, step or row that does not exist
├── DataError             input rows that cannot be used
│   └── TooManyRejects    more bad rows than the source allows
├── StepError             an operator failed on a shard
│   └── NoAnswers         models left too many rows without an answer
├── GateClosed            a version that its recipe's gates keep from being published
├── ExportError           an export that would lose or falsify something
├── Busy                  another run makes the same dataset
└── StoreError            the store could not be read or written
    └── Damaged           a stored file no longer matches its recorded sha256
"""

from collections.abc import Mapping, Sequence
from typing import Any


class CurateError(Exception):
    """Anything that stops the work; its text is one sentence a user can act on."""

    exit_code = 1


class UsageError(CurateError):
    """The command or its arguments are wrong."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that cannot run. `problems` holds every problem, not just the first."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        count = f"{len(self.problems)} problems in the recipe:\n" if len(self.problems) > 1 else ""
        super().__init__(count + "\n".join(self.problems))


class UnknownName(UsageError):
    """A version, step, tag or row that does not exist."""


class DataError(CurateError):
    """Input that cannot be used; names file, line and column where known."""


class TooManyRejects(DataError):
    """More rows were rejected than the recipe's `max_rejects` allows."""


class StepError(CurateError):
    """An operator failed; names the step and the shard."""


class NoAnswers(StepError):
    """More rows of a step have no answer than `max_errors` allows. What was answered is kept."""

    def __init__(self, text: str, passes: bool = True) -> None:
        super().__init__(text)
        self.passes = passes
        """Whether asking again later may help: true unless a limit of the caller's own was reached."""


class GateClosed(CurateError):
    """A gate of the recipe is closed: nothing was published. The text holds a table of the gates.

    results: every gate as `curate.publish.gates.Result`, the closed ones first. metrics: all that would have been published.
    """

    def __init__(self, text: str, results: Sequence[Any] = (), metrics: Mapping[str, float | None] | None = None) -> None:
        super().__init__(text)
        self.results = tuple(results)
        self.metrics = dict(metrics or {})


class ExportError(CurateError):
    """An export that would lose or falsify something, refused."""


class Busy(CurateError):
    """Another run makes the same dataset right now."""

    def __init__(self, text: str, holder: Mapping[str, Any] | None = None, stepped_aside: bool = False) -> None:
        super().__init__(text)
        self.holder = holder or {}
        """Who: `run`, `host`, `pid` and `since` (unix seconds), as far as they are known."""
        self.stepped_aside = stepped_aside
        """Whether that is as it should be, and no failure."""


class StoreError(CurateError):
    """The store could not be read or written; nothing committed was lost."""


class Damaged(StoreError):
    """A stored file no longer matches its recorded sha256."""
