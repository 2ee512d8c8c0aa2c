"""Read a source, or a list of them, as tables with ids; rows that cannot be used go to the rejects."""

import difflib
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate import ids
from curate.errors import DataError
from curate.source import earlier, hub, join
from curate.source.dialects import DIALECTS
from curate.source.fields import Raw, roots
from curate.source.files import files_of, local_folder, version_folder
from curate.source.formats import Numbered, format_of, no_format, read_batches, read_file
from curate.source.join import Joined
from curate.source.rejects import BadRow, Rejects
from curate.source.spec import PROMPT_NAMES, Mapper, OneOrMore, Place, Source, grain_of, listed
from curate.tables import MESSAGE, SCHEMAS, Grain, bare, conform

ROWS = 8192  # rows of a table at most
CHARACTERS = 16_000_000  # characters of answers in a table, about; bounds memory where rows are long
MESSAGES = pa.list_(MESSAGE)
ONLY_PROMPTS = ("scores", "evidence", "flags")  # they speak of answers, which `as: prompts` leaves behind


def read(source: OneOrMore, base: Path, rejects: Rejects, scratch: Path, store_root: Path | None = None) -> Iterator[pa.Table]:
    """Tables of at most 8,192 rows, all columns of the grain, ids filled, `row` counting from 0 over all sources.

    base: folder that paths are relative to. Raises TooManyRejects once a source is read and has more than it allows.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    row = 0
    with tempfile.TemporaryDirectory(dir=scratch, prefix="source-") as folder:
        seen = Distinct(Path(folder) / "prompts.sqlite")
        with closing(seen):
            for place, one in enumerate(listed(source)):
                rejects.begin()
                for table in _tables(one, base, rejects, Path(folder) / str(place), store_root):
                    table = seen.new_rows(_prompts_of(table)) if one.as_ == "prompts" else table
                    if table.num_rows:
                        yield _numbered(table, row)
                        row += table.num_rows
                rejects.check_source(one.max_rejects)


def _tables(source: Source, base: Path, rejects: Rejects, scratch: Path, store_root: Path | None) -> Iterator[pa.Table]:
    scratch.mkdir()
    grain = grain_of(source)
    if source.version is None:
        yield from _mapped(source, base, rejects, scratch)
        return
    for table in earlier.read_version(version_folder(source, store_root), source, grain, ROWS):
        rejects.saw(table.num_rows)
        told = table["source"].fill_null(source.version)
        yield table.set_column(table.schema.get_field_index("source"), "source", told)


def _mapped(source: Source, base: Path, rejects: Rejects, scratch: Path) -> Iterator[pa.Table]:
    """Tables of a source that is read row by row."""
    dialect = DIALECTS[source.dialect]
    grain: Grain = grain_of(source.model_copy(update={"as_": None}))
    added = {name for one in source.join for name in join.given_fields(one)}
    anything_joined = any(one.columns is None and one.scores is None for one in source.join)
    used = dialect.used(source)
    wanted = None if used is None else used | {name for one in source.join for path in one.on.values() for name in roots(path)}
    needs = [] if anything_joined else [path for path in dialect.needs(source) if path not in added]
    with ExitStack() as stack:
        joins = []
        for place, one in enumerate(source.join):
            batches = _raw(one, base, join.used_fields(one), join.needs(one), rejects, scratch)
            joins.append(stack.enter_context(closing(Joined(one, batches, scratch / f"join{place}.sqlite", rejects))))
        raw = _raw(source, base, wanted, needs, rejects, scratch)
        unmet = Unmet(source.place(), dialect.needs(source))
        yield from _batched(_rows(raw, joins, dialect.mapper(source), grain, rejects, unmet), grain)
        for joined in joins:
            joined.finish()


def _raw(
    place: Place, base: Path, wanted: set[str] | None, needs: list[str], rejects: Rejects, scratch: Path
) -> Iterator[tuple[str, Numbered]]:
    """Batches of raw rows, each with the name of what it was read from."""
    if place.hf is not None:
        folder = local_folder(place, base)
        name = folder.name if folder else str(place.hf)
        for batch in read_batches(hub.read_split(place, folder, wanted, needs, scratch), name, rejects):
            yield name, batch
        return
    for file in files_of(place, base):
        kind = place.format or format_of(file.name)
        if kind is None:
            raise DataError(no_format(str(place.path), file.name))
        for batch in read_file(file, kind, wanted, needs, rejects):
            yield file.name, batch


class Unmet:
    """Fields that the recipe names and no row that was used has had so far: most likely misspelt."""

    def __init__(self, place: str, paths: Iterable[str]) -> None:
        self.place = place
        self.paths = {path: set(roots(path)) for path in paths}
        self.there: set[str] = set()

    def meet(self, row: Mapping[str, Any]) -> None:
        """Take note of a row's fields."""
        self.paths = {path: names for path, names in self.paths.items() if not names & row.keys()}
        self.there |= row.keys()

    def check(self) -> None:
        """Raise DataError if a field was in no row at all."""
        if self.paths and self.there:
            wrong = sorted(self.paths)[0]
            near = difflib.get_close_matches(wrong, self.there, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"fields there: {', '.join(sorted(self.there)[:20])}"
            raise DataError(f"{self.place}: no row has the field {wrong!r} that the recipe maps; {hint}")


def _rows(
    raw: Iterable[tuple[str, Numbered]], joins: list[Joined], mapper: Mapper, grain: Grain, rejects: Rejects, unmet: Unmet
) -> Iterator[dict[str, Any]]:
    for file, batch in raw:
        for line, fields in batch:
            try:
                scores: list[dict[str, Any]] = []
                row_fields: Raw = fields
                for joined in joins:
                    row_fields, found = joined.attach(row_fields)
                    scores += found
                made = [identified(row, grain) for row in mapper(row_fields)]
            except BadRow as fault:
                rejects.bad(file, line, fault, str(fields))
                continue
            if unmet.paths:
                unmet.meet(row_fields)
            for joined in joins:
                joined.taken()
            for row in made:
                row.setdefault("source", file)
                if scores:
                    row["scores"] = [*row.get("scores", ()), *scores]
                yield row
    unmet.check()


def identified(row: dict[str, Any], grain: Grain) -> dict[str, Any]:
    """The row with the ids of its content."""
    row["prompt_id"] = prompt = ids.prompt_id(row["prompt"])
    if grain == "responses":
        row["response_id"] = ids.response_id(
            prompt, row["response"], row["turns"], row.get("model"), row.get("seed"), row.get("sample")
        )
    elif grain == "pairs":
        for side in ("chosen", "rejected"):
            row[f"{side}_id"] = ids.response_id(prompt, row[side], row[f"{side}_turns"], row.get(f"{side}_model"), None, None)
        row["pair_id"] = ids.pair_id(row["chosen_id"], row["rejected_id"], row.get("goal"))
    return row


def _batched(rows: Iterable[dict[str, Any]], grain: Grain) -> Iterator[pa.Table]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.get("response") or "") + len(row.get("chosen") or "") + len(row.get("rejected") or "")
        if len(batch) == ROWS or size > CHARACTERS:
            yield table_of(batch, grain)
            batch, size = [], 0
    if batch:
        yield table_of(batch, grain)


def table_of(rows: list[dict[str, Any]], grain: Grain) -> pa.Table:
    """A table of the rows; only columns that some row has are built, the rest are null."""
    present = set().union(*rows)
    types = SCHEMAS[grain]
    columns = {
        name: column_of([row.get(name) for row in rows], types.field(name).type) for name in types.names if name in present
    }
    return conform(pa.table(columns), grain)


def column_of(values: list[Any], kind: pa.DataType) -> pa.Array:
    """The values as an array. Lists of messages are put together field by field, at a fifth of what they cost as objects."""
    if kind != MESSAGES:
        return pa.array(values, kind)
    messages = [message for listed in values if listed is not None for message in listed]
    fields = [pa.array([message.get(field.name) for message in messages], field.type) for field in MESSAGE]
    ends = np.cumsum([0, *(0 if listed is None else len(listed) for listed in values)])
    absent = pa.array([listed is None for listed in values]) if None in values else None
    entries = pa.StructArray.from_arrays(fields, fields=list(MESSAGE))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), entries, MESSAGES, mask=absent)


def _prompts_of(table: pa.Table) -> pa.Table:
    return conform(table.select([name for name in PROMPT_NAMES if name not in ONLY_PROMPTS]), "prompts")


def _numbered(table: pa.Table, first: int) -> pa.Table:
    ordinals = pa.array(np.arange(first, first + table.num_rows))
    return bare(table.set_column(table.schema.get_field_index("row"), "row", ordinals))


class Distinct:
    """The prompts seen so far, on disk: there may be more than memory holds."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID")

    def new_rows(self, table: pa.Table) -> pa.Table:
        """The rows whose prompt was not seen before, now seen."""
        self._db.execute("BEGIN")
        new = [self._is_new(bytes.fromhex(prompt)) for prompt in table["prompt_id"].to_pylist()]
        self._db.execute("COMMIT")
        return table.filter(pa.array(new, pa.bool_()))

    def _is_new(self, prompt: bytes) -> bool:
        return self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (prompt,)).rowcount == 1

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
