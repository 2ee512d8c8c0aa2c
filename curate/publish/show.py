"""Look at rows of a version: the first ones, a random sample, those that match a condition; and try another threshold."""

import difflib
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.errors import UnknownName, UsageError
from curate.maths.series import at_least
from curate.publish.figures import ROW_ID, SIDES, Files, Step, files_of, steps_of, table_names
from curate.store.versions import Version

PER_STEP = 5  # rows a moved threshold is illustrated with
MESSAGE_COLUMNS = ("prompt", "chosen", "rejected", "turns")
READING = re.compile(r"\b(select|table|values|with|from|read_\w*|scan_\w*)\b", re.IGNORECASE)
QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
COMMENT = re.compile(r"--|/\*")


@dataclass(frozen=True)
class Shown:
    """Rows of one table of a version."""

    version: str
    table: str
    """pairs, responses, prompts, or dropped/ before one of them."""
    total: int
    """Rows of the table (of the split, where one was asked for)."""
    matched: int
    """Rows that meet the condition."""
    rows: list[dict[str, Any]]


def show(
    version: Version,
    where: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    n: int = 5,
    split: str | None = None,
    table: str | None = None,
    columns: Sequence[str] | None = None,
) -> Shown:
    """The first `n` rows, or a `sample` of that many, in the order of the version.

    where: a polars SQL condition, such as "margin > 2 AND chosen_model = 'x'"; besides the table's columns it may use
    prompt_text, chosen_text and rejected_text. table: the product's if not given; "dropped" is its dropped rows.
    """
    name = table_name(version, table)
    files = files_of(version.path, name, _split(version, name, split))
    check_columns(columns or (), files.schema.names, f"{version} {name}")
    total = files.rows
    at = np.arange(total) if where is None else matching(files, where, f"{version} {name}")
    if sample is None:
        picked = at[: max(n, 0)]
    else:
        picked = at[sorted(random.Random(seed).sample(range(len(at)), min(max(sample, 0), len(at))))]
    return Shown(str(version), name, total, len(at), rows_at(files, picked, columns).to_pylist())


def table_name(version: Version, table: str | None) -> str:
    """The table a user means, checked to be in the version."""
    grain = version.manifest["grain"]
    name = {None: grain, "dropped": f"dropped/{grain}"}.get(table, table)
    known = table_names(version.path, grain)
    if name not in known and not (name or "").startswith("dropped/"):
        raise UnknownName(f"{version} has no table {table!r} (there: {', '.join(known)})")
    if name not in known and name not in [f"dropped/{g}" for g in ROW_ID]:
        raise UnknownName(f"{version} has no table {table!r} (there: {', '.join(known)})")
    return str(name)


def _split(version: Version, table: str, split: str | None) -> str | None:
    if split is None:
        return None
    splits = version.manifest["splits"]
    if table != version.manifest["grain"]:
        raise UsageError(f"{table} has no splits; leave out the split, or ask for rows where split = '{split}'")
    if split not in splits:
        raise UnknownName(f"{version} has no split {split!r} (there: {', '.join(sorted(splits))})")
    return split


def check_columns(names: Iterable[str], known: Sequence[str], place: str) -> None:
    """Raise UnknownName for the first name that is no column, with the nearest one that is."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise UnknownName(f"{place} has no column {name!r}; {hint}")


# -- rows by number


def rows_at(files: Files, numbers: Iterable[int], columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of these ascending numbers (from 0), reading only the batches that hold one."""
    wanted = np.fromiter(numbers, np.int64)
    names = list(columns) if columns is not None else files.schema.names
    parts = []
    start = 0
    for path in files.paths:
        with pa.memory_map(str(path)) as source:
            for index, length in enumerate(_lengths(source)):
                inside = wanted[(wanted >= start) & (wanted < start + length)] - start
                if len(inside):
                    parts.append(_batch(source, names, index).take(_indices(inside)))
                start += length
    if not parts:
        return files.schema.empty_table().select([name for name in names if name in files.schema.names])
    return pa.concat_tables(parts)


def _indices(numbers: np.ndarray) -> pa.Array:
    """Row numbers as Arrow. `pa.array` would import pandas first where it is installed, which takes longer than reading."""
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(np.ascontiguousarray(numbers, np.int64))])


def _lengths(source: pa.MemoryMappedFile) -> list[int]:
    """Rows of each batch of an open file; one narrow column is decompressed to learn them."""
    reader = pa.ipc.open_file(source)
    field_at = max(reader.schema.get_field_index("row"), 0)
    reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=[field_at]))
    return [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]


def _batch(source: pa.MemoryMappedFile, names: Sequence[str], index: int) -> pa.Table:
    reader = pa.ipc.open_file(source)
    fields = [reader.schema.get_field_index(name) for name in names]
    reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
    return pa.Table.from_batches([reader.get_batch(index)]).select(list(names))


def seeded_rows(files: Files, n: int, seed: int = 0, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """A random sample of n rows, the same for the same seed and files, in their order."""
    total = files.rows
    picked = sorted(random.Random(seed).sample(range(total), min(n, total)))
    rows: list[dict[str, Any]] = rows_at(files, picked, columns).to_pylist()
    return rows


# -- conditions


def matching(files: Files, where: str, place: str) -> np.ndarray:
    """Numbers of the rows that meet a condition, ascending. Only the columns it names are read."""
    import polars as pl

    condition = _condition(where)
    known = files.schema.names
    texts = {f"{name}_text": name for name in MESSAGE_COLUMNS if name in known and f"{name}_text" not in known}
    check_columns(condition.meta.root_names(), [*known, *texts], place)
    if not files.paths:
        return np.empty(0, np.int64)
    joined = [_joined(pl.col(name)).alias(text) for text, name in texts.items()]
    frame = pl.scan_ipc(list(files.paths)).with_row_index("row number").with_columns(joined)
    try:
        found = frame.filter(condition).select("row number").collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n", 1)[0]
        hint = f"; messages are text as {', '.join(texts)}" if "list[struct" in reason else ""
        raise UsageError(f"where {where!r}: {reason}{hint}") from error
    return np.sort(found["row number"].to_numpy().astype(np.int64))


def _condition(where: str) -> Any:
    """A condition on one row as a polars expression. It may name columns and functions of values, not tables or files."""
    import polars as pl

    bare = QUOTED.sub("''", where)
    if (word := READING.search(bare)) is not None:
        raise UsageError(f"where {where!r}: {word[0]} is not allowed in a condition on a row's columns")
    if COMMENT.search(bare) or "'" in bare.replace("''", ""):
        raise UsageError(f"where {where!r}: comments and unfinished quotes are not allowed")
    try:
        condition = pl.sql_expr(where)
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"where {where!r}: {error}; a condition looks like \"margin > 2 AND chosen_model = 'x'\"") from error
    return condition


def _joined(column: Any) -> Any:
    import polars as pl

    return column.list.eval(pl.element().struct.field("content").fill_null("")).list.join("\n\n")


# -- another threshold


@dataclass(frozen=True)
class Moved:
    """What another threshold of one step would do to the rows it measured."""

    step: str
    grain: str
    measure: str
    keep: str
    """A row is kept if its measure is this (>=, >, <=, <) to the threshold."""
    parameter: str
    """The recipe's parameter that holds the threshold."""
    old: float
    new: float
    kept_now: int
    kept_then: int
    dropped: int
    """Rows it kept that it would drop."""
    returned: int
    """Rows it dropped that it would keep."""
    unmeasured: int
    """Rows without the measure: they stay as they are."""
    product_lost: int
    """Rows of the version's product that would go, with those of their sides that are dropped."""
    later: tuple[str, ...]
    """Steps that returned rows would go on to; what those make of them is not known yet."""
    dropped_rows: list[dict[str, Any]] = field(default_factory=list)
    """A few of the rows it would drop, nearest to the old threshold first: id, value."""
    returned_rows: list[dict[str, Any]] = field(default_factory=list)
    """A few of the rows it would keep, in the same order."""
    note: str = ""
    """What the version cannot tell."""


@dataclass(frozen=True)
class Rethreshold:
    """What other thresholds would do to a version, read from the measures it holds."""

    version: str
    grain: str
    rows_now: int
    rows_then: int
    """Rows of the product that pass all of the thresholds; returned rows, which later steps have not seen, left out."""
    moved: tuple[Moved, ...]


def rethreshold(version: Version, thresholds: Mapping[str, float]) -> Rethreshold:
    """What other thresholds of some steps would keep and drop. Nothing is computed anew and nothing is written."""
    steps = {step.name: step for step in steps_of(version.manifest)}
    grain = version.manifest["grain"]
    product = files_of(version.path, grain)
    lost = np.zeros(product.rows, dtype=bool)
    moved = []
    for step in [_movable(version, steps, name) for name in thresholds]:
        result, gone = _move(version, step, float(thresholds[step.name]), list(steps.values()))
        lost |= gone
        moved.append(result)
    moved.sort(key=lambda m: list(steps).index(m.step))
    return Rethreshold(str(version), grain, product.rows, product.rows - int(lost.sum()), tuple(moved))


def _movable(version: Version, steps: Mapping[str, Step], name: str) -> Step:
    with_cut = [step.name for step in steps.values() if step.cut]
    there = f"steps with one: {', '.join(with_cut)}" if with_cut else "no step of it has one"
    if name not in steps:
        near = difflib.get_close_matches(name, list(steps), n=1, cutoff=0.5)
        raise UnknownName(f"{version} has no step {name!r}; {f'did you mean {near[0]}?' if near else there}")
    if steps[name].cut is None:
        raise UsageError(f"step {name} of {version} has no threshold that can be moved without computing anew; {there}")
    return steps[name]


@dataclass(frozen=True)
class _Measured:
    """Rows that a step saw, kept in the product, behind it, or dropped."""

    ids: pa.Array
    """Of the row the step saw: the parent's where a later step made new rows from it."""
    values: np.ndarray
    mine: np.ndarray
    """Whether this step dropped the row."""


def _move(version: Version, step: Step, new: float, steps: Sequence[Step]) -> tuple[Moved, np.ndarray]:
    """The effect of one threshold, and which rows of the product it takes away."""
    assert step.cut is not None
    keep, old = step.cut["keep"], float(step.cut["threshold"])
    after = steps[[s.name for s in steps].index(step.name) + 1 :]
    remade = any(other.makes == step.grain and other.grain == step.grain for other in after)
    rows = _measured(version, step, steps, remade)
    passes_old, passes_new = passes(rows.values, keep, old), passes(rows.values, keep, new)
    returned = rows.mine & ~passes_old & passes_new & ~np.isnan(rows.values)
    dropped = ~rows.mine & passes_old & ~passes_new
    lost = _product_lost(version, step, rows.ids.filter(pa.array(dropped)), remade)
    seen = len(rows.ids)
    note = f"the version holds {seen:,} of the {step.rows_in:,} {step.grain} that this step saw" if seen != step.rows_in else ""
    moved = Moved(
        step=step.name,
        grain=step.grain,
        measure=step.cut["measure"],
        keep=keep,
        parameter=step.cut["field"],
        old=old,
        new=new,
        kept_now=step.kept,
        kept_then=step.kept - int(dropped.sum()) + int(returned.sum()),
        dropped=int(dropped.sum()),
        returned=int(returned.sum()),
        unmeasured=int(np.isnan(rows.values).sum()),
        product_lost=int(lost.sum()),
        later=tuple(other.name for other in after),
        dropped_rows=_nearest(rows, dropped, old),
        returned_rows=_nearest(rows, returned, old),
        note=note,
    )
    return moved, lost


def passes(values: np.ndarray, keep: str, threshold: float) -> np.ndarray:
    """Which measures are on the kept side of a threshold, compared as filters do; NaN is not."""
    reached = at_least(values, threshold) if keep in (">=", "<") else at_least(-values, -threshold)
    return reached if keep in (">=", "<=") else ~reached & ~np.isnan(values)


def _measured(version: Version, step: Step, steps: Sequence[Step], remade: bool) -> _Measured:
    """Every row of the version that the step saw."""
    names = [s.name for s in steps]
    reached = pa.array([None, *names[names.index(step.name) :]], pa.string())  # a row dropped before was not seen
    ids, values, mine = [], [], []
    for table in (step.grain, f"dropped/{step.grain}"):
        for batch in files_of(version.path, table).batches([ROW_ID[step.grain], "parent_id", "evidence", "dropped_by"]):
            if "dropped_by" in batch.column_names:
                batch = batch.filter(pc.is_in(batch["dropped_by"], value_set=reached))
                mine.append(pc.fill_null(pc.equal(batch["dropped_by"], step.name), False).to_numpy().astype(bool))
            else:
                mine.append(np.zeros(batch.num_rows, dtype=bool))
            ids.append(_seen_id(batch, step.grain, remade))
            values.append(_evidence(batch, step))
    joined = pa.chunked_array(ids, type=pa.string()).combine_chunks()
    rows = _Measured(joined, np.concatenate([*values, np.empty(0, np.float32)]), np.concatenate([*mine, np.empty(0, bool)]))
    return _once(rows) if remade else rows


def _seen_id(batch: pa.Table, grain: str, remade: bool) -> pa.Array:
    own = tables.flat(batch[ROW_ID[grain]])
    return pc.coalesce(tables.flat(batch["parent_id"]), own) if remade and "parent_id" in batch.column_names else own


def _evidence(batch: pa.Table, step: Step) -> np.ndarray:
    if "evidence" not in batch.column_names or step.cut is None:
        return np.full(batch.num_rows, np.nan, dtype=np.float32)
    return tables.value_of(batch["evidence"], by=step.name, name=step.cut["measure"])


def _once(rows: _Measured) -> _Measured:
    """Rows made from the same row count once."""
    codes = rows.ids.dictionary_encode().indices.to_numpy()
    first = np.sort(np.unique(codes, return_index=True)[1])
    return _Measured(rows.ids.take(pa.array(first)), rows.values[first], rows.mine[first])


def _nearest(rows: _Measured, which: np.ndarray, threshold: float) -> list[dict[str, Any]]:
    at = np.flatnonzero(which)
    at = at[np.argsort(np.abs(rows.values[at] - threshold), kind="stable")][:PER_STEP]
    return [{"id": rows.ids[int(i)].as_py(), "value": float(rows.values[i])} for i in at]


def _product_lost(version: Version, step: Step, gone: pa.Array, remade: bool) -> np.ndarray:
    """Which rows of the product are, or are made of, rows that would be dropped, (N,) bool."""
    grain = version.manifest["grain"]
    made_of = {
        ("pairs", "responses"): ["chosen_id", "rejected_id"],
        ("pairs", "prompts"): ["prompt_id"],
        ("responses", "prompts"): ["prompt_id"],
    }
    names = made_of.get((grain, step.grain), [ROW_ID[grain], "parent_id"] if remade else [ROW_ID[grain]])
    found = [np.zeros(0, dtype=bool)]
    for batch in files_of(version.path, grain).batches(names):
        lost = np.zeros(batch.num_rows, dtype=bool)
        for column in batch.columns:
            lost |= pc.is_in(column, value_set=gone).to_numpy().astype(bool)
        found.append(lost)
    return np.concatenate(found)


def text_columns(grain: str) -> tuple[str, ...]:
    """The columns of a row that a person reads: prompt first."""
    return ("prompt", *SIDES[grain])
