"""Every error a user can meet.

CurateError
├── UsageError            the call itself is wrong (exit 2)
│   ├── RecipeError       a recipe that cannot run; lists every problem found
│   └── UnknownName       a version, step or row that does not exist
├── DataError             input rows that cannot be used
│   └── TooManyRejects    more bad rows than the source allows
├── StepError             an operator failed on a shard
├── ExportError           an export that would lose or falsify something
└── StoreError            the store could not be read or written
    └── Damaged           a stored file no longer matches its recorded sha256
"""

from collections.abc import Sequence


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


class ExportError(CurateError):
    """An export that would lose or falsify something, refused."""


class StoreError(CurateError):
    """The store could not be read or written; nothing committed was lost."""


class Damaged(StoreError):
    """A stored file no longer matches its recorded sha256."""
