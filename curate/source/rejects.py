"""Collect the rows of a source that cannot be used, and stop when there are too many.

Every rejected row is one line of a JSONL file: file, line (1-based; the row number in columnar files), column,
reason and the first 200 characters of its text.
"""

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from curate.errors import TooManyRejects

TEXT_KEPT = 200  # characters of a rejected row kept in the file: enough to recognise it
SHOWN = 3  # reasons named in the error


class BadRow(Exception):  # noqa: N818 - a condition of the data, caught by the reader and never shown as an error
    """One row that cannot be used. `reason` is the same for all rows of its kind; `detail` speaks of this row."""

    def __init__(self, column: str | None, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.column, self.reason, self.detail = column, reason, detail


class Tally:
    """Rows read, rejects by reason, and where each reason was met first."""

    def __init__(self) -> None:
        self.read = 0
        self.reasons: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    @property
    def rejected(self) -> int:
        """Number of rejected rows."""
        return self.reasons.total()

    def add(self, reason: str, place: str) -> None:
        """Count one reject."""
        self.reasons[reason] += 1
        self.first.setdefault(reason, place)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as a snapshot of the source keeps it."""
        return {"read": self.read, "rejected": self.rejected, "reasons": dict(self.reasons.most_common()), "first": self.first}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Tally":
        """The inverse of to_json."""
        tally = Tally()
        tally.read, tally.reasons, tally.first = value["read"], Counter(value["reasons"]), value["first"]
        return tally

    def check(self, limit: float) -> None:
        """Raise TooManyRejects above the limit: a share of the rows read below 1, a number of rows from 1 on."""
        allowed = limit if limit >= 1 else limit * self.read
        if self.rejected > allowed:
            raise TooManyRejects(self._sentence(limit))

    def _sentence(self, limit: float) -> str:
        most = "; ".join(
            f"{reason} ({count:,}, first at {self.first[reason]})" for reason, count in self.reasons.most_common(SHOWN)
        )
        share = f" ({self.rejected / self.read:.1%})" if self.read else ""
        return (
            f"{self.rejected:,} of {self.read:,} rows{share} were rejected, more than max_rejects: {limit:g} allows. "
            f"Most frequent: {most}. Correct the file or its mapping, or raise max_rejects in the recipe's source"
        )


class Rejects:
    """The rejects file of a run. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace")
        self.total = Tally()
        self.current = Tally()
        self.sources: list[Tally] = []

    @property
    def rows_read(self) -> int:
        """Rows read so far, rows of joined files included."""
        return self.total.read

    @property
    def count(self) -> int:
        """Rows rejected so far."""
        return self.total.rejected

    @property
    def reasons(self) -> dict[str, int]:
        """Number of rejected rows by reason, the most frequent first."""
        return dict(self.total.reasons.most_common())

    def begin(self) -> None:
        """Start a further source: `check_source` counts from here."""
        self.current = Tally()
        self.sources.append(self.current)

    def saw(self, rows: int = 1) -> None:
        """Count rows read."""
        self.total.read += rows
        self.current.read += rows

    def add(self, file: str, line: int, column: str | None, reason: str, text: str = "", detail: str = "") -> None:
        """Record one row. `reason` is what rejects are counted by; `detail` is added to it in the file only."""
        entry = {
            "file": file,
            "line": line,
            "column": column,
            "reason": f"{reason}: {detail}" if detail else reason,
            "text": text[:TEXT_KEPT],
        }
        self._file.write(json.dumps({k: v for k, v in entry.items() if v is not None}, ensure_ascii=False) + "\n")
        for tally in (self.total, self.current):
            tally.add(reason, f"{file}:{line}")

    def bad(self, file: str, line: int, fault: BadRow, text: str = "") -> None:
        """Record a row by the fault found in it."""
        self.add(file, line, fault.column, fault.reason, text, fault.detail)

    def check(self, limit: float) -> None:
        """Raise TooManyRejects if all sources together have more rejects than the limit allows."""
        self.total.check(limit)

    def check_source(self, limit: float) -> None:
        """Raise TooManyRejects if the source begun last has more rejects than the limit allows."""
        self.current.check(limit)

    def summary(self) -> dict[str, Any]:
        """Counts of all sources together and of each, as plain JSON."""
        return self.total.to_json() | {"sources": [tally.to_json() for tally in self.sources]}

    def table(self) -> pa.Table:
        """The rejects as a table: file, line, column (null if none), reason, text."""
        self._file.flush()
        fields = [
            ("file", pa.string()),
            ("line", pa.int64()),
            ("column", pa.string()),
            ("reason", pa.string()),
            ("text", pa.string()),
        ]
        with self.path.open(encoding="utf-8") as file:
            return pa.Table.from_pylist([json.loads(line) for line in file], schema=pa.schema(fields))

    def close(self) -> None:
        """Write out what is left and close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
