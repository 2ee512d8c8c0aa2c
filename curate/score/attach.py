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
from curate.operator import ShardOperator
from curate.tables import Grain

ROW_IDS: dict[Grain, str] = {"pairs": "pair_id", "responses": "response_id", "prompts": "prompt_id"}
SUFFIXES = (".jsonl", ".csv", ".parquet")
UNREAD = np.inf  # a verdict that `verdicts` does not know
UNREAD_ERROR = "unparsable: a verdict that `verdicts` does not list"
BATCH = 65_536  # file rows in memory as Python values at a time


class Attach(ShardOperator):
    """Append what a file says about a row. Ids that name no row are ignored, rows that the file leaves out stay as they are.

    An id that the file repeats appends each of its rows, in file order; an empty cell appends nothing.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("prompts", "responses", "pairs")

    file: Path = Field(description="A .jsonl, .csv or .parquet file, relative to the recipe.")
    on: str | None = Field(default=None, description="Column that names a row; the id of the grain if not given.")
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
    flags: str | None = Field(default=None, description="Field with a reason to drop the row; empty to keep it.")

    @model_validator(mode="after")
    def _brings_something(self) -> Self:
        if not (self.scores or self.votes or self.flags):
            raise ValueError("attach needs at least one of scores, votes and flags")
        if strays := sorted(self.swapped.keys() - self.votes.keys()):
            raise ValueError(f"swapped and verdicts are about fields of `votes`, which has no {', '.join(strays)}")
        if self.verdicts and not self.votes:
            raise ValueError("swapped and verdicts are about fields of `votes`, which is empty")
        if self.file.suffix.lower() not in SUFFIXES:
            raise ValueError(f"attach reads {', '.join(SUFFIXES)}, got {self.file.name}")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """The column that names a row; votes need pairs."""
        return {self.on or ROW_IDS[grain]} | ({"pair_id"} if self.votes else set())

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

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The evidence columns with what the file adds to each row."""
        on = self.on or next(name for name in ROW_IDS.values() if name in table.column_names)
        entries = self._entries(self.key or on)
        rows, at = _matches(table[on], entries)
        columns: dict[str, pa.Array] = {}
        for column, kind, fields in (("scores", tables.SCORE, self.scores), ("votes", tables.VOTE, self.votes)):
            for field, by in fields.items():
                lists = columns[column] if column in columns else table[column]
                columns[column] = _append(lists, kind, _rater(field, by), rows, self._values(entries, column, field, at))
        if self.flags:
            reasons = pc.take(entries.reasons, pa.array(at))
            told = np.flatnonzero(pc.fill_null(pc.not_equal(reasons, ""), False).to_numpy(zero_copy_only=False))
            flags = tables.structs(tables.FLAG, len(told), by=self.name, reason=reasons.take(pa.array(told)))
            columns["flags"] = tables.append(table["flags"], flags, rows[told])
        return pa.table(columns)

    def _values(self, entries: "Entries", column: str, field: str, at: np.ndarray) -> list[np.ndarray]:
        """What the file says of each matched row: a score, or a vote in the orders it has."""
        values = [entries.numbers[field][at]]
        if column == "votes" and field in self.swapped:
            exchanged = entries.numbers[self.swapped[field]][at]
            # a verdict is about the side shown first, which is now the rejected one; a number is about chosen
            values.append(np.where(np.isfinite(exchanged), 1 - exchanged, exchanged) if self.verdicts else exchanged)
        return values

    def _entries(self, key: str) -> "Entries":
        try:
            found = self.file.stat()
        except OSError as error:
            raise DataError(f"{self.file}: {error.strerror}; attach needs this file") from error
        votes = tuple(dict.fromkeys([*self.votes, *self.swapped.values()]))
        fields = (tuple(self.scores), votes, self.flags, tuple(sorted(self.verdicts.items())))
        return read_entries(self.file, (found.st_mtime_ns, found.st_size), key, *fields)


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


@lru_cache(maxsize=4)
def read_entries(
    file: Path,
    _state: tuple[int, int],
    key: str,
    scores: tuple[str, ...],
    votes: tuple[str, ...],
    flags: str | None,
    verdicts: tuple[tuple[str, float], ...] = (),
) -> Entries:
    """Read a file once in each process; `_state` (time and size of the file) makes a changed file read again."""
    wanted = [*scores, *votes]
    known = dict(verdicts)
    parts: list[list[pa.Array]] = []
    named: list[str] = []
    numbers: list[list[float]] = [[] for _ in wanted]
    reasons: list[str] = []
    for place, record in _records(file, [key, *wanted, *([flags] if flags else [])]):
        named.append(_text(record.get(key), f"{place}, {key}", required=True))
        for series, field in zip(numbers, wanted, strict=True):
            told = record.get(field)
            if known and field in votes:
                series.append(_verdict(told, f"{place}, {field}", known))
            else:
                series.append(_number(told, f"{place}, {field}", probability=field in votes))
        reasons.append(_text(record.get(flags), f"{place}, {flags}") if flags else "")
        if len(named) == BATCH:
            parts.append(_arrays(named, numbers, reasons))
            named, numbers, reasons = [], [[] for _ in wanted], []
    parts.append(_arrays(named, numbers, reasons))
    ids, *series_arrays, all_reasons = (pa.concat_arrays(column) for column in zip(*parts, strict=True))
    return _sorted(ids, dict(zip(wanted, (array.to_numpy() for array in series_arrays), strict=True)), all_reasons)


def _arrays(named: list[str], numbers: list[list[float]], reasons: list[str]) -> list[pa.Array]:
    return [pa.array(named, pa.string()), *(pa.array(series, pa.float32()) for series in numbers), pa.array(reasons, pa.string())]


def _sorted(ids: pa.Array, numbers: dict[str, np.ndarray], reasons: pa.Array) -> Entries:
    encoded = ids.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(encoded.dictionary)))]).astype(np.int64)
    return Entries(
        encoded.dictionary, starts, {field: series[order] for field, series in numbers.items()}, reasons.take(pa.array(order))
    )


def _matches(column: pa.ChunkedArray, entries: Entries) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers, ascending and repeated where a row has several entries, and the entry of each."""
    which = pc.fill_null(pc.index_in(column, value_set=entries.ids, skip_nulls=True), -1).to_numpy()
    rows = np.flatnonzero(which >= 0)
    starts = entries.starts[which[rows]]
    counts = entries.starts[which[rows] + 1] - starts
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(rows, counts), np.repeat(starts, counts) + within


def _append(lists: Any, kind: pa.StructType, series: tuple[str, str], rows: np.ndarray, values: list[np.ndarray]) -> pa.Array:
    told = np.any([~np.isnan(each) for each in values], axis=0)
    names = ("value",) if kind == tables.SCORE else ("p_chosen", "p_swapped")
    numbers = {name: np.where(np.isinf(each), np.nan, each)[told] for name, each in zip(names, values, strict=False)}
    unread = np.any([np.isinf(each) for each in values], axis=0)[told]
    errors = pa.array([UNREAD_ERROR if each else None for each in unread.tolist()], pa.string())
    fields = {"rater": series[0], "aspect": series[1], "error": errors, **numbers}
    return tables.append(lists, tables.structs(kind, int(told.sum()), **fields), rows[told])


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


def _verdict(value: Any, place: str, known: dict[str, float]) -> float:
    """What a recorded verdict gives to the side shown first: the whole text, spaces around it aside, is what is looked up."""
    text = _text(value, place).strip()
    return known.get(text, UNREAD) if text else float("nan")


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
