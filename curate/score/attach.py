"""Attach scores, votes or flags from a file to rows by id: human review and outside work come in here."""

import csv
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate import tables
from curate.errors import DataError
from curate.ids import canonical_json
from curate.maths import recorded
from curate.maths.metas import field_names
from curate.maths.recorded import Layout
from curate.operator import ShardOperator
from curate.tables import Grain

ROW_IDS: dict[Grain, str] = {"pairs": "pair_id", "responses": "response_id", "prompts": "prompt_id"}
SUFFIXES = (".jsonl", ".csv", ".parquet")
UNREAD_ERROR = "unparsable: "  # then why a verdict could not be read
SWAPPED = "(sides exchanged)"  # in a rationale, before the text that was recorded with the rejected side first
KEPT = 20_000  # characters of a verdict that could not be read
META = "meta."
BATCH = 65_536  # file rows in memory as Python values at a time


class Attach(ShardOperator):
    """Append what a file says about a row. Ids that name no row are ignored, rows that the file leaves out stay as they are.

    An id that the file repeats appends each of its rows, in file order; an empty cell appends nothing. A recorded verdict
    that cannot be read, or can be read two ways, is null with an error that says why, and its text is the rationale.
    """

    version: ClassVar[int] = 3

    takes: ClassVar[tuple[Grain, ...]] = ("prompts", "responses", "pairs")

    file: Path = Field(description="A .jsonl, .csv or .parquet file, relative to the recipe.")
    on: str | None = Field(
        default=None, description="Column that names a row, or field of `meta` (meta.NAME); the id of the grain if not given."
    )
    key: str | None = Field(default=None, description="The file's field that holds that id; of the same name if not given.")
    scores: dict[str, str] = Field(
        default={}, description="Fields with numbers, and the rater or rater:aspect of each; aspect: the field's name."
    )
    votes: dict[str, str] = Field(
        default={}, description="Pairs: fields with the probability that chosen is better, and the rater of each."
    )
    swapped: dict[str, str] = Field(
        default={}, description="Pairs: to fields of `votes`, those with the same vote when the sides were shown exchanged."
    )
    verdicts: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={},
        description="Where fields of votes hold recorded verdicts: each text and the probability it gives to the side shown "
        "first; a field of `votes` was shown with chosen first, one of `swapped` with rejected first.",
    )
    layout: Layout = Field(
        default="exact",
        description="How recorded verdicts are laid out; exact: one of `verdicts` and nothing else; choice: begins with one, "
        "remarks may follow; conclusion: reasons that end in a sentence such as `Therefore, A is better.`; ratings: a mark for "
        "the side shown first and one for the other, a list or a text such as `7 9`.",
    )
    flags: str | None = Field(default=None, description="Field with a reason to drop the row; empty to keep it.")

    @model_validator(mode="after")
    def _brings_something(self) -> Self:
        if not (self.scores or self.votes or self.flags):
            raise ValueError("attach needs at least one of scores, votes and flags")
        if strays := sorted(self.swapped.keys() - self.votes.keys()):
            raise ValueError(f"swapped and verdicts are about fields of `votes`, which has no {', '.join(strays)}")
        if self.verdicts and not self.votes:
            raise ValueError("swapped and verdicts are about fields of `votes`, which is empty")
        if self.layout in ("choice", "conclusion") and not self.verdicts:
            raise ValueError(f"layout: {self.layout} needs `verdicts`, the names that the sides were shown under")
        if self.layout == "ratings" and (self.verdicts or not self.votes):
            raise ValueError("layout: ratings reads marks in fields of `votes`, and takes no verdicts")
        if self._field is not None and self.key is None:
            raise ValueError(f"on: {self.on} needs `key`, the file's field that holds the same")
        if self.file.suffix.lower() not in SUFFIXES:
            raise ValueError(f"attach reads {', '.join(SUFFIXES)}, got {self.file.name}")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """The column that names a row; votes need pairs."""
        return {self._column or ROW_IDS[grain]} | ({"pair_id"} if self.votes else set())

    def writes(self, grain: Grain) -> set[str]:
        """Each series of the file, and flags."""
        written = {".".join(("scores", *_rater(field, by))) for field, by in self.scores.items()}
        written |= {".".join(("votes", *_rater(field, by))) for field, by in self.votes.items()}
        return written | ({"flags"} if self.flags else set())

    def files(self) -> set[str]:
        """The file."""
        return {str(self.file)}

    def parameters(self) -> dict[str, Any]:
        """Where the file lies changes nothing; its contents are told apart by `files`."""
        return super().parameters() | {"file": self.file.name}

    @property
    def _column(self) -> str | None:
        """The column of `on`."""
        return self.on if self._field is None else "meta"

    @property
    def _field(self) -> str | None:
        """The field of `meta` that `on` says, if it does."""
        return self.on.removeprefix(META) if self.on is not None and self.on.startswith(META) else None

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The evidence columns with what the file adds to each row."""
        on = self._column or next(name for name in ROW_IDS.values() if name in table.column_names)
        names = table[on] if self._field is None else pa.array(field_names(table[on], self._field), pa.string())
        entries = self._entries(self.key or on)
        rows, at = _matches(names, entries)
        columns: dict[str, pa.Array] = {}
        for field, by in self.scores.items():
            lists = columns.get("scores", table["scores"])
            values = {"value": entries.numbers[field][at]}
            columns["scores"] = _append(lists, tables.SCORE, _rater(field, by), rows, values)
        for field, by in self.votes.items():
            lists = columns.get("votes", table["votes"])
            values, unread = self._orders(entries, field, at)
            columns["votes"] = _append(lists, tables.VOTE, _rater(field, by), rows, values, unread)
        if self.flags:
            reasons = pc.take(entries.reasons, pa.array(at))
            told = np.flatnonzero(pc.fill_null(pc.not_equal(reasons, ""), False).to_numpy(zero_copy_only=False))
            flags = tables.structs(tables.FLAG, len(told), by=self.name, reason=reasons.take(pa.array(told)))
            columns["flags"] = tables.append(table["flags"], flags, rows[told])
        return pa.table(columns)

    @property
    def _recorded(self) -> bool:
        """Whether fields of votes hold verdicts, about the side shown first, instead of numbers, about chosen."""
        return bool(self.verdicts) or self.layout == "ratings"

    def _orders(self, entries: "Entries", field: str, at: np.ndarray) -> tuple[dict[str, np.ndarray], list["Unread | None"]]:
        """A vote on each matched row in the orders it has, and what of it could not be read."""
        values = {"p_chosen": entries.numbers[field][at]}
        unread = [entries.unread.get((field, place)) for place in at.tolist()]
        if field in self.swapped:
            exchanged = entries.numbers[self.swapped[field]][at]
            values["p_swapped"] = 1 - exchanged if self._recorded else exchanged
            others = [entries.unread.get((self.swapped[field], place)) for place in at.tolist()]
            unread = [_joined(*both) for both in zip(unread, others, strict=True)]
        return values, unread

    def _entries(self, key: str) -> "Entries":
        try:
            found = self.file.stat()
        except OSError as error:
            raise DataError(f"{self.file}: {error.strerror}; attach needs this file") from error
        votes = tuple(dict.fromkeys([*self.votes, *self.swapped.values()]))
        reading = Reading(self.layout, tuple(self.verdicts.items())) if self._recorded else None
        fields = (tuple(self.scores), votes, self.flags, reading)
        return read_entries(self.file, (found.st_mtime_ns, found.st_size), key, *fields)


class Reading(NamedTuple):
    """How fields of votes are read as verdicts."""

    layout: Layout
    verdicts: tuple[tuple[str, float], ...]


class Unread(NamedTuple):
    """A recorded verdict that could not be read."""

    why: str
    text: str


class Entries(NamedTuple):
    """What a file says, sorted by id and, for one id, in file order."""

    ids: pa.Array
    """The distinct ids."""
    starts: np.ndarray
    """Where each id's entries begin, with one more at the end."""
    numbers: dict[str, np.ndarray]
    """Scores and probabilities by field; NaN where the file has none."""
    reasons: pa.Array
    """Reasons to drop, "" or null for none."""
    unread: dict[tuple[str, int], Unread]
    """By field and place among the entries."""


@lru_cache(maxsize=4)
def read_entries(
    file: Path,
    _state: tuple[int, int],
    key: str,
    scores: tuple[str, ...],
    votes: tuple[str, ...],
    flags: str | None,
    reading: Reading | None = None,
) -> Entries:
    """Read a file once in each process; `_state` (time and size of the file) makes a changed file read again."""
    wanted = [*scores, *votes]
    parts: list[list[pa.Array]] = []
    named: list[str] = []
    numbers: list[list[float]] = [[] for _ in wanted]
    reasons: list[str] = []
    unread: dict[tuple[str, int], Unread] = {}
    known = dict(reading.verdicts) if reading else {}
    for count, (place, record) in enumerate(_records(file, [key, *wanted, *([flags] if flags else [])])):
        named.append(_text(record.get(key), f"{place}, {key}", required=True))
        for series, field in zip(numbers, wanted, strict=True):
            told = record.get(field)
            if reading and field in votes:
                value = _verdict(told, f"{place}, {field}", reading.layout, known)
                if isinstance(value, Unread):
                    unread[field, count] = value
                series.append(float("nan") if isinstance(value, Unread) else value)
            else:
                series.append(_number(told, f"{place}, {field}", probability=field in votes))
        reasons.append(_text(record.get(flags), f"{place}, {flags}") if flags else "")
        if len(named) == BATCH:
            parts.append(_arrays(named, numbers, reasons))
            named, numbers, reasons = [], [[] for _ in wanted], []
    parts.append(_arrays(named, numbers, reasons))
    ids, *series_arrays, all_reasons = (pa.concat_arrays(column) for column in zip(*parts, strict=True))
    return _sorted(ids, dict(zip(wanted, (array.to_numpy() for array in series_arrays), strict=True)), all_reasons, unread)


def _arrays(named: list[str], numbers: list[list[float]], reasons: list[str]) -> list[pa.Array]:
    return [pa.array(named, pa.string()), *(pa.array(series, pa.float32()) for series in numbers), pa.array(reasons, pa.string())]


def _sorted(ids: pa.Array, numbers: dict[str, np.ndarray], reasons: pa.Array, unread: dict[tuple[str, int], Unread]) -> Entries:
    encoded = ids.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(encoded.dictionary)))]).astype(np.int64)
    place_of = np.argsort(order, kind="stable").tolist() if unread else []
    return Entries(
        encoded.dictionary,
        starts,
        {field: series[order] for field, series in numbers.items()},
        reasons.take(pa.array(order)),
        {(field, place_of[place]): found for (field, place), found in unread.items()},
    )


def _matches(column: pa.Array | pa.ChunkedArray, entries: Entries) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers, ascending and repeated where a row has several entries, and the entry of each."""
    which = pc.fill_null(pc.index_in(column, value_set=entries.ids, skip_nulls=True), -1).to_numpy()
    rows = np.flatnonzero(which >= 0)
    starts = entries.starts[which[rows]]
    counts = entries.starts[which[rows] + 1] - starts
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(rows, counts), np.repeat(starts, counts) + within


def _append(
    lists: Any,
    kind: pa.StructType,
    series: tuple[str, str],
    rows: np.ndarray,
    values: dict[str, np.ndarray],
    unread: list[Unread | None] | None = None,
) -> pa.Array:
    """The entries that say something, of a number or of a verdict that cannot be read."""
    failed = unread or [None] * len(rows)
    told = np.any([~np.isnan(each) for each in values.values()], axis=0) | np.array([each is not None for each in failed], bool)
    spoken = [failed[place] for place in np.flatnonzero(told).tolist()]
    fields: dict[str, Any] = {
        "error": [each and UNREAD_ERROR + each.why for each in spoken],
        "rationale": [each and each.text for each in spoken],
        **{name: each[told] for name, each in values.items()},
    }
    return tables.append(lists, tables.structs(kind, len(spoken), rater=series[0], aspect=series[1], **fields), rows[told])


def _joined(shown: Unread | None, exchanged: Unread | None) -> Unread | None:
    """What of a vote could not be read, in either order."""
    if exchanged is None:
        return shown
    text = f"{SWAPPED}\n{exchanged.text}"
    return Unread(exchanged.why, text) if shown is None else Unread(shown.why, f"{shown.text}\n\n{text}")


def _rater(field: str, by: str) -> tuple[str, str]:
    rater, aspect = tables.split_rater(by)
    return rater, field if aspect is None else aspect


def _records(file: Path, fields: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record of a file with its place; fields that the file does not have are an error."""
    suffix = file.suffix.lower()
    try:
        if suffix == ".jsonl":
            yield from _lines(file, fields)
        elif suffix == ".csv":
            yield from _csv_rows(file, fields)
        else:
            yield from _parquet_rows(file, fields)
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 at byte {error.start}") from error


def _lines(file: Path, fields: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    present: dict[str, None] = {}
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{file}:{number}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise DataError(f"{file}:{number}: expected a JSON object, got {line.strip()[:40]}")
            present |= dict.fromkeys(record)
            yield f"{file}:{number}", record
    if present:
        _check_fields(file, fields, list(present))


def _csv_rows(file: Path, fields: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        _check_fields(file, fields, list(reader.fieldnames or []))
        for record in reader:
            yield f"{file}:{reader.line_num}", record


def _parquet_rows(file: Path, fields: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: not a Parquet file: {error}") from error
    with opened:
        _check_fields(file, fields, opened.schema_arrow.names)
        number = 0
        for batch in opened.iter_batches(batch_size=BATCH, columns=fields):
            for record in batch.to_pylist():
                number += 1
                yield f"{file}: row {number}", record


def _check_fields(file: Path, fields: list[str], present: list[str]) -> None:
    missing = [field for field in fields if field not in present]
    if missing:
        raise DataError(f"{file}: no field {', '.join(missing)}; it has {', '.join(present)}")


def _text(value: Any, place: str, required: bool = False) -> str:
    if value is None and not required:
        return ""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or (required and not text):
        raise DataError(f"{place}: expected a text, got {value!r}")
    fault = tables.text_fault(text)
    if fault:
        raise DataError(f"{place}: {fault}")
    return text


def _verdict(value: Any, place: str, layout: Layout, known: dict[str, float]) -> float | Unread:
    """What a recorded verdict gives to the side shown first; NaN where nothing was recorded."""
    marks = layout == "ratings" and not isinstance(value, str)
    text = _text(canonical_json(value) if marks else value, place)
    told = recorded.read(value if marks else text, layout, known)
    if told.why is not None:
        return Unread(told.why, text[:KEPT])
    return float("nan") if told.p is None else told.p


def _number(value: Any, place: str, probability: bool) -> float:
    if value is None or value == "":
        return float("nan")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{place}: expected a number, got {value!r}") from error
    if not np.isfinite(np.float64(number)) or abs(number) > float(np.finfo(np.float32).max):
        raise DataError(f"{place}: expected a finite number that float32 can hold, got {value!r}")
    if probability and not 0 <= number <= 1:
        raise DataError(f"{place}: expected a probability in [0, 1], got {value!r}")
    return number
