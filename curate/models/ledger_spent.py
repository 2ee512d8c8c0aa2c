"""What the ledger says was spent: calls, tokens and money by model, step and day."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from curate.models import ledger_record as record
from curate.models import ledger_segment as segment_file
from curate.models.ledger_segment import FILE_HEAD, Entry

By = Literal["model", "step", "day"]
SUFFIX = ".sum"
KEEP_AFTER = 1 << 20
"""Bytes read without a summary that are worth writing one."""


@dataclass(frozen=True)
class Spent:
    """What one model cost in one step on one day. Retries that cost nothing are not recorded and not counted."""

    model: str | None
    step: str | None
    day: str | None
    """In UTC: 2026-02-28."""
    calls: int = 0
    answered: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    """Failures by kind."""
    prompt_tokens: int = 0
    response_tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    """How long the calls took, added up."""

    def __add__(self, other: "Spent") -> "Spent":
        """Both, under this one's name."""
        errors = {kind: self.errors.get(kind, 0) + other.errors.get(kind, 0) for kind in {**self.errors, **other.errors}}
        return replace(
            self,
            calls=self.calls + other.calls,
            answered=self.answered + other.answered,
            errors=dict(sorted(errors.items())),
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            response_tokens=self.response_tokens + other.response_tokens,
            cost_usd=self.cost_usd + other.cost_usd,
            seconds=self.seconds + other.seconds,
        )


def grouped(rows: Iterable[Spent], by: By | None = None) -> list[Spent]:
    """Rows added up, by model, step or day, or each combination of them; in order of their names."""
    sums: dict[tuple[str, str, str], Spent] = {}
    for row in rows:
        named = replace(
            row,
            model=row.model if by in (None, "model") else None,
            step=row.step if by in (None, "step") else None,
            day=row.day if by in (None, "day") else None,
        )
        place = (named.model or "", named.step or "", named.day or "")
        sums[place] = sums[place] + named if place in sums else named
    return [sums[place] for place in sorted(sums)]


def spent(root: Path) -> list[Spent]:
    """Everything a ledger records, by model, step and day. A segment that lies there twice counts once."""
    rows: list[Spent] = []
    for segment, identifier, size in originals(root):
        rows += _of_segment(segment, identifier, size)
    return grouped(rows)


def originals(root: Path) -> list[tuple[Path, bytes, int]]:
    """(segment, id, size), the longest where several files are copies of one."""
    longest: dict[bytes, tuple[Path, bytes, int]] = {}
    for path in segment_file.segments_in(root):
        with path.open("rb") as source:
            identifier = segment_file.identify(path, source.read(FILE_HEAD.size))
        size = path.stat().st_size
        if identifier is not None and (identifier not in longest or size > longest[identifier][2]):
            longest[identifier] = (path, identifier, size)
    return sorted(longest.values())


def records(segment: Path, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """Records and their payloads, in the order they lie in; damaged ones are left out."""
    with segment.open("rb") as source:
        for entry in entries:
            source.seek(entry.offset)
            payload = segment_file.payload_of(source.read(entry.length), entry.key)
            if payload is not None:
                yield entry, payload


def _of_segment(segment: Path, identifier: bytes, size: int) -> list[Spent]:
    covered, rows = _summary(segment, identifier, size)
    found = segment_file.scan(segment, covered, size)
    fresh = []
    for _, payload in records(segment, found.entries):
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            fresh.append(_of_record(*record.about(payload)))
    rows = grouped([*rows, *fresh])
    if found.end - covered > KEEP_AFTER:
        kept = {"id": identifier.hex(), "covered": found.end, "rows": [asdict(row) for row in rows]}
        segment_file.write_beside(segment.with_suffix(SUFFIX), json.dumps(kept).encode())
    return rows


def _summary(segment: Path, identifier: bytes, size: int) -> tuple[int, list[Spent]]:
    """What was added up before, and up to which offset."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(segment.with_suffix(SUFFIX).read_bytes())
        if kept["id"] == identifier.hex() and 0 <= kept["covered"] <= size:
            return kept["covered"], [Spent(**row) for row in kept["rows"]]
    return 0, []


def _of_record(answer: record.Answer, about: dict[str, Any]) -> Spent:
    told = answer.told
    error = "unparsable" if answer.disowns else told.get("error")
    return Spent(
        model=str(about["model"].get("name")),
        step=about["step"],
        day=f"{datetime.fromtimestamp(answer.at, UTC):%Y-%m-%d}",
        calls=int(not answer.disowns),
        answered=int(error is None),
        errors={} if error is None else {str(error): 1},
        prompt_tokens=told.get("prompt_tokens") or 0,
        response_tokens=told.get("response_tokens") or 0,
        cost_usd=told.get("cost_usd") or 0.0,
        seconds=told.get("seconds") or 0.0,
    )
