"""Apply an operator to one shard: give it the unflagged rows, carry the flagged ones past, write what it adds.

These functions run in worker threads and processes: they take references and return references. Finished work is
remembered under the operator and the content it saw, so a killed step continues and an equal shard is never redone.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.errors import CurateError, StepError, StoreError
from curate.ids import digest
from curate.models.asking import final_rows, retryable_rows
from curate.models.operator import ModelOperator
from curate.operator import DatasetOperator, Made, Operator, ShardOperator
from curate.store import arrow
from curate.store.store import Shard, Store
from curate.tables import Grain

ROW_ID: dict[Grain, str] = {"prompts": "prompt_id", "responses": "response_id", "pairs": "pair_id"}


class Task(NamedTuple):
    """Shard operators to run one after the other on a shard."""

    root: Path
    operators: tuple[ShardOperator, ...]
    asked: tuple[str, ...]
    """What each operator was asked, as a digest: part of the key of the remembered work."""
    grain: Grain
    place: int
    """The shard's number."""
    shard: Shard


@dataclass(frozen=True)
class Outcome:
    """What one operator made of one shard."""

    shard: Shard
    left: Shard | None
    counts: dict[str, Any]
    """rows_in, kept, made and dropped by reason."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as the store remembers it."""
        shards = [self.shard, self.left] if self.left else [self.shard]
        return {
            "objects": sorted({name for shard in shards for name in shard.columns.values()}),
            "shard": self.shard.to_json(),
            "left": self.left.to_json() if self.left else None,
            "counts": self.counts,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Outcome":
        """The inverse of to_json."""
        left = Shard.from_json(value["left"]) if value["left"] else None
        return Outcome(Shard.from_json(value["shard"]), left, value["counts"])


def run_chain(task: Task) -> list[Outcome]:
    """One outcome per operator of the chain."""
    store, outcomes, shard, grain = Store(task.root), [], task.shard, task.grain
    for operator, asked in zip(task.operators, task.asked, strict=True):
        key = digest({"asked": asked, "shard": shard.to_json()})
        remembered = store.remembered(key)
        if remembered:
            outcome = Outcome.from_json(remembered)
        else:
            outcome = _run(store, operator, grain, shard, task.place)
            if not outcome.counts.get("errors"):  # the next run asks again what has no answer
                store.remember(key, outcome.to_json())
        outcomes.append(outcome)
        shard, grain = outcome.shard, operator.makes or grain
    return outcomes


def _run(store: Store, operator: ShardOperator, grain: Grain, shard: Shard, index: int) -> Outcome:
    table, kept = load(store, operator, grain, shard)
    with named(operator, index):
        made = operator(unflagged(table, kept))
    if isinstance(operator, ModelOperator):
        rows = made.rows if isinstance(made, Made) else made
        told = {"errors": retryable_rows(rows), "final_errors": final_rows(rows)}
        outcome = save(store, operator, grain, shard, table, kept, made)
        return replace(outcome, counts=outcome.counts | {name: dict(kinds) for name, kinds in told.items() if kinds})
    return save(store, operator, grain, shard, table, kept, made)


@contextmanager
def named(operator: Operator, place: int | None = None) -> Iterator[None]:
    """Say in which step and shard an operator failed."""
    where = f"step {operator.name}" + ("" if place is None else f", shard {place}")
    try:
        yield
    except (StoreError, OSError):
        raise
    except CurateError as error:
        raise StepError(f"{where}: {error}") from error
    except MemoryError as error:
        raise StepError(f"{where}: out of memory; lower CURATE_SHARD_MB and run again") from error
    except ValueError as error:
        raise StepError(f"{where}: {error}") from error
    except Exception as error:
        raise StepError(f"{where}: {type(error).__name__}: {error}") from error


def load(store: Store, operator: Operator, grain: Grain, shard: Shard) -> tuple[pa.Table, np.ndarray]:
    """The columns an operator needs, and which rows carry no flag."""
    columns = operator.columns(grain)
    table = store.read_shard(shard, grain, columns if "flags" in columns else [*columns, "flags"])
    return table, tables.is_kept(table)


def unflagged(table: pa.Table, kept: np.ndarray) -> pa.Table:
    """The rows that carry no flag: what an operator is given. No text is copied where no row is flagged."""
    return table if kept.all() else table.filter(pa.array(kept))


def save(
    store: Store, operator: Operator, grain: Grain, shard: Shard, table: pa.Table, kept: np.ndarray, made: pa.Table | Made
) -> Outcome:
    """Write what an operator returned and count where its rows went."""
    if operator.makes is None:
        assert isinstance(made, pa.Table)
        added = _carry(table, kept, made)
        after = store.put_shard(added, over=shard)
        dropped = reasons(added["flags"], operator.name) if "flags" in added.column_names else {}
        return Outcome(after, None, _balanced(operator, int(kept.sum()), after.kept, dropped, None))
    if isinstance(made, Made):
        flags = _carry(table, kept, pa.table({"flags": made.flags}))
        left, after = store.put_shards([(flags, shard), (_whole(made.rows, operator.makes), None)])
        counts = _balanced(operator, int(kept.sum()), left.kept, reasons(flags["flags"], operator.name), after.rows)
        return Outcome(after, left, counts)
    rows = _whole(made, operator.makes)
    given = pc.is_in(rows[ROW_ID[grain]], unflagged(table, kept)[ROW_ID[grain]].combine_chunks())
    dropped = reasons(rows.filter(given)["flags"], operator.name)  # a new row that is flagged was never given
    fresh = int(tables.is_kept(rows).sum())
    passed = _whole(table.filter(pa.array(~kept)), operator.makes)
    after = store.put_shard(pa.concat_tables([rows, passed]))
    rows_in = int(kept.sum())
    return Outcome(after, None, {"rows_in": rows_in, "kept": rows_in - sum(dropped.values()), "made": fresh, "dropped": dropped})


def _whole(rows: pa.Table, grain: Grain) -> pa.Table:
    """All columns of a grain but `row`, which follows from the position."""
    table = tables.conform(rows.drop_columns([name for name in rows.column_names if name == "row"]), grain)
    return table.drop_columns(["row"])


def _balanced(operator: Operator, rows_in: int, kept: int, dropped: dict[str, int], made: int | None) -> dict[str, Any]:
    """The counts, once it is sure that no row vanished."""
    if kept + sum(dropped.values()) != rows_in:
        raise StepError(
            f"step {operator.name} lost rows: {rows_in} in, {kept} kept, {sum(dropped.values())} dropped; report this"
        )
    return {"rows_in": rows_in, "kept": kept, "made": made, "dropped": dropped}


def _carry(table: pa.Table, kept: np.ndarray, added: pa.Table) -> pa.Table:
    """The added columns over all rows: flagged rows keep what they had (null in a new column)."""
    if added.num_rows != int(kept.sum()):
        raise StepError(f"{added.num_rows} rows came back for {int(kept.sum())}")
    if kept.all():
        return added
    at = np.empty(len(kept), dtype=np.int64)
    at[kept] = np.arange(added.num_rows)
    at[~kept] = added.num_rows + np.arange(len(kept) - added.num_rows)
    passed = table.filter(pa.array(~kept))
    columns = {}
    for name in added.column_names:
        column = added[name]
        old = passed[name] if name in passed.column_names else pa.chunked_array([pa.nulls(passed.num_rows, column.type)])
        columns[name] = pa.chunked_array([*column.chunks, *old.chunks], type=column.type).take(pa.array(at))
    return pa.table(columns)


def reasons(flags: pa.ChunkedArray, by: str) -> dict[str, int]:
    """Rows by the reason of their first flag by this step."""
    lists = flags.combine_chunks() if isinstance(flags, pa.ChunkedArray) else flags
    entries = lists.flatten()
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    mine = pc.equal(pc.struct_field(entries, "by"), by).to_numpy(zero_copy_only=False).astype(bool)
    rows, first = np.unique(parents[mine], return_index=True)
    reasons = pc.struct_field(entries, "reason").filter(pa.array(mine)).take(pa.array(first)).to_pylist()
    assert len(rows) == len(reasons)
    return dict(sorted(Counter(reasons).items()))


# -- dataset operators: features in shards, one decision, apply in shards


class FeatureTask(NamedTuple):
    """Measure one shard for a dataset operator."""

    root: Path
    operator: DatasetOperator
    asked: str
    grain: Grain
    place: int
    """The shard's number."""
    shard: Shard


def run_features(task: FeatureTask) -> tuple[str, int]:
    """The object that holds the shard's features, and the number of rows measured."""
    store = Store(task.root)
    key = digest({"features": task.asked, "shard": task.shard.to_json()})
    remembered = store.remembered(key)
    if remembered is None:
        table, kept = load(store, task.operator, task.grain, task.shard)
        with named(task.operator, task.place):
            features = task.operator.features(unflagged(table, kept))
        if features.num_rows != int(kept.sum()):
            raise StepError(f"step {task.operator.name}: {features.num_rows} feature rows for {int(kept.sum())} rows")
        remembered = {"objects": [store.put_table(features)], "rows": features.num_rows}
        store.remember(key, remembered)
    return remembered["objects"][0], remembered["rows"]


def read_objects(store: Store, objects: Sequence[str]) -> pa.Table:
    """Feature or state objects one below the other."""
    return pa.concat_tables([arrow.read(store.object_path(name)) for name in objects])


class ApplyTask(NamedTuple):
    """Apply a decision to one shard."""

    root: Path
    operator: DatasetOperator
    asked: str
    grain: Grain
    place: int
    """The shard's number."""
    shard: Shard
    state: str
    """The object that holds the shard's rows of the decision, or the whole fitted table."""


def run_apply(task: ApplyTask) -> Outcome:
    """What the decision makes of the shard."""
    store = Store(task.root)
    key = digest({"apply": task.asked, "state": task.state, "shard": task.shard.to_json()})
    remembered = store.remembered(key)
    if remembered:
        return Outcome.from_json(remembered)
    table, kept = load(store, task.operator, task.grain, task.shard)
    state = arrow.read(store.object_path(task.state))
    with named(task.operator, task.place):
        made = task.operator.apply(unflagged(table, kept), state)
    outcome = save(store, task.operator, task.grain, task.shard, table, kept, made)
    store.remember(key, outcome.to_json())
    return outcome
