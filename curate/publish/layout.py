"""The columns of a published version: messages trainers read as they stand, evidence, and one flat column per score."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.store.store import Snapshot, Store
from curate.tables import Grain

ALWAYS = {
    "prompts": ("row", "prompt_id", "prompt", "source"),
    "responses": ("row", "prompt_id", "prompt", "source", "response_id", "response", "model"),
    "pairs": (
        "row",
        "prompt_id",
        "prompt",
        "source",
        "pair_id",
        "chosen",
        "rejected",
        "chosen_id",
        "rejected_id",
        "margin",
        "origin",
    ),
}
"""Columns written even where they are entirely null."""
FOLDED = {"chosen": "chosen_turns", "rejected": "rejected_turns"}
SCORE_COLUMNS = ("scores", "chosen_scores", "rejected_scores")
OPTIONAL_FIELDS = ("name", "tool_calls", "tool_call_id")


@dataclass(frozen=True)
class Layout:
    """How one table of a version is laid out; the same for its kept and its dropped rows."""

    grain: Grain
    columns: tuple[str, ...]
    message: pa.StructType
    raters: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Distinct (rater, aspect) of each score and vote column."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """A table of the store in the layout of a version."""
        out: dict[str, pa.Array] = {}
        for name in self.columns:
            if name in FOLDED:
                out[name] = _messages(table[name], table[FOLDED[name]], self.message)
            elif name in ("prompt", "turns"):
                out[name] = _narrow(tables.flat(table[name]), self.message)
            else:
                out[name] = tables.flat(table[name])
        for column, name, rater, aspect in self.flat_scores():
            out[name] = pa.array(tables.score_of(table, rater, aspect or None, column), from_pandas=True)
        return pa.table(out)

    def flat_scores(self) -> list[tuple[str, str, str, str]]:
        """(score column, flat column, rater, aspect) of every flat score column, names made unique."""
        taken = set(self.columns)
        found = []
        for column in SCORE_COLUMNS:
            for rater, aspect in self.raters.get(column, []):
                base = flat_name(column, rater, aspect)
                name, number = base, 2
                while name in taken:
                    name, number = f"{base}_{number}", number + 1
                taken.add(name)
                found.append((column, name, rater, aspect))
        return found


def flat_name(column: str, rater: str, aspect: str) -> str:
    """chosen_scores of ("RM-1", "help") as chosen_score_rm_1_help."""
    words = re.sub(r"[^a-z0-9]+", "_", f"{rater} {aspect}".lower()).strip("_")
    return f"{column.removesuffix('s')}_{words}"


def plan(store: Store, snapshot: Snapshot) -> Layout:
    """The layout of a snapshot's table, from one pass over its messages and scores."""
    grain = snapshot.grain
    present = {name for shard in snapshot.shards for name in shard.columns}
    folded = set(FOLDED.values()) if grain == "pairs" else set()
    columns = [c for c in tables.SCHEMAS[grain].names if (c in present or c in ALWAYS[grain]) and c not in folded]
    scanned = [c for c in ("prompt", "turns", "chosen_turns", "rejected_turns", *SCORE_COLUMNS, "votes") if c in present]
    used: set[str] = set()
    seen: dict[str, set[tuple[str, str]]] = {c: set() for c in (*SCORE_COLUMNS, "votes") if c in tables.SCHEMAS[grain].names}
    for table in store.read(snapshot, scanned):
        for name in scanned:
            if name in seen:
                seen[name] |= set(tables.raters(table[name]))
            else:
                used |= _used_fields(table[name])
    message = pa.struct([f for f in tables.MESSAGE if f.name not in OPTIONAL_FIELDS or f.name in used])
    return Layout(grain, tuple(columns), message, {name: sorted(pairs) for name, pairs in seen.items()})


def _used_fields(column: pa.ChunkedArray) -> set[str]:
    entries = tables.flat(column).flatten()
    return {name for name in OPTIONAL_FIELDS if pc.struct_field(entries, name).null_count < len(entries)}


def _narrow(lists: pa.ListArray, message: pa.StructType) -> pa.ListArray:
    """Message lists without the fields that no message of the version uses."""
    entries = lists.flatten()
    fields = [pc.struct_field(entries, f.name) for f in message]
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    mask = lists.is_null() if lists.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(fields, fields=list(message)), mask=mask)


def _messages(text: pa.ChunkedArray, turns: pa.ChunkedArray, message: pa.StructType) -> pa.ListArray:
    """A side of a pair as messages: its turns where it has them, else one assistant message."""
    text = tables.flat(text)
    single = tables.structs(tables.MESSAGE, len(text), role="assistant", content=text)
    lists = pa.ListArray.from_arrays(pa.array(np.arange(len(text) + 1, dtype=np.int32)), single)
    if turns.null_count < len(turns):
        lists = lists.cast(pa.list_(tables.MESSAGE))
        has = tables.flat(turns).is_valid().to_numpy(zero_copy_only=False)
        at = np.where(has, len(text) + np.arange(len(text)), np.arange(len(text)))
        lists = pa.concat_arrays([lists, tables.flat(turns)]).take(pa.array(at))
    return _narrow(lists, message)


def splits_of(table: pa.Table) -> Iterable[tuple[str, pa.Table]]:
    """The table's rows by split; null counts as train."""
    split = pc.fill_null(table["split"], "train") if "split" in table.column_names else None
    if split is None:
        yield "train", table
        return
    for name in sorted(pc.unique(split).to_pylist()):
        yield name, table.filter(pc.equal(split, name))


def first_flag(flags: pa.ChunkedArray, fields: Sequence[str] = ("by", "reason", "value", "other")) -> dict[str, pa.Array]:
    """The first flag of every row, field by field; null where a row has none."""
    first = pc.list_element(tables.flat(flags), 0)
    return {name: pc.struct_field(first, name) for name in fields}
