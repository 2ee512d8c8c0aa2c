"""What the formats that list a prompt's responses share."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.export import listing
from curate.export.format import Format, Run

Message = dict[str, Any]


class ResponseFormat(Format):
    """Rows made of a version's responses, whether they were its product or `pair` made pairs of them."""

    grains = ("responses", "pairs")
    carries: ClassVar[frozenset[str]] = frozenset()
    load: ClassVar[str] = "from datasets import load_dataset\nrows = load_dataset({path!r}, split={split!r})\nprint(rows[0])"

    def prepare(self, run: Run) -> None:
        """Refuse a version without responses."""
        listing.check(run)

    def reads(self, run: Run) -> list[str]:
        """What a listing reads."""
        return listing.COLUMNS

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """The rows as `read` made them."""
        return table


class ListFormat(ResponseFormat):
    """One row a prompt, made of its responses by falling score (--by, else the score the recipe paired by)."""

    least: ClassVar[int] = 2
    """Responses that a row needs."""

    def prepare(self, run: Run) -> None:
        """Refuse a version without responses, or without the one score that ranks them."""
        super().prepare(run)
        listing.rated_by(run)

    def read(self, run: Run, part: str) -> Iterator[pa.Table]:
        """The rows of the split's prompts."""
        for found in listing.ranked(run, part, self.least):
            yield self.listed(found, run)

    @abstractmethod
    def listed(self, found: listing.Ranked, run: Run) -> pa.Table:
        """Training rows, one a prompt."""


def plain_texts(found: listing.Ranked, run: Run, sayable_P: np.ndarray) -> np.ndarray:
    """Which prompts plain text can say, (P,) bool: sayable, without tools or responses of several turns; others are counted."""
    prompts = found.prompts()
    plain = sayable_P & ~np.logical_or.reduceat(listing.has_turns(found.table), found.starts)
    if "tools" in prompts.column_names:
        plain &= prompts["tools"].is_null().to_numpy(zero_copy_only=False)
    run.leave_out("not_plain", ~plain, prompts["prompt_id"])
    return plain


def is_text(message: Message) -> bool:
    """Whether a message is nothing but text by its role."""
    return isinstance(message.get("content"), str) and set(message) <= {"role", "content"}
