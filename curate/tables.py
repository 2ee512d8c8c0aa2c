"""The three tables every step reads and writes, and the one way to write and read evidence.

`prompts`, `responses` and `pairs` always have all their columns; a column nobody wrote is null. Evidence (scores,
votes, measures, flags) is appended to lists with `append` and read with `value_of`, `score_of` and `is_kept`, here and
nowhere else.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Grain = Literal["prompts", "responses", "pairs"]

MESSAGE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("name", pa.string()),
        ("tool_calls", pa.string()),
        ("tool_call_id", pa.string()),
    ]
)
IMAGE = pa.struct([("sha256", pa.string()), ("path", pa.string())])
SCORE = pa.struct(
    [
        ("rater", pa.string()),
        ("aspect", pa.string()),
        ("value", pa.float32()),
        ("rationale", pa.string()),
        ("position", pa.int8()),
        ("round", pa.int8()),
        ("error", pa.string()),
    ]
)
VOTE = pa.struct(
    [
        ("rater", pa.string()),
        ("aspect", pa.string()),
        ("p_chosen", pa.float32()),
        ("p_swapped", pa.float32()),
        ("round", pa.int8()),
        ("rationale", pa.string()),
        ("error", pa.string()),
    ]
)
EVIDENCE = pa.struct([("by", pa.string()), ("name", pa.string()), ("value", pa.float32())])
FLAG = pa.struct([("by", pa.string()), ("reason", pa.string()), ("value", pa.float32()), ("other", pa.string())])
SPAN = pa.struct([("side", pa.string()), ("start", pa.int32()), ("end", pa.int32()), ("weight", pa.float32())])


class Column(NamedTuple):
    """One column of a table: its Arrow type and what it means, units and the meaning of null included."""

    name: str
    type: pa.DataType
    meaning: str


PROMPT_COLUMNS = [
    Column("row", pa.int64(), "unique ordinal of the row within its table"),
    Column("prompt_id", pa.string(), "128 bits of the sha256 of the canonical messages, hex; repeats where prompts repeat"),
    Column("prompt", pa.list_(MESSAGE), "messages up to the response, in order; tool_calls is JSON"),
    Column("source", pa.string(), "where the row came from: a file, dataset or earlier version; null if not told"),
    Column("license", pa.string(), "licence of the row; null if not told"),
    Column("domain", pa.string(), "topic or task type; null if not told"),
    Column("reference", pa.string(), "gold answer or a checker's input; null where there is none"),
    Column("images", pa.list_(IMAGE), "images the prompt refers to; files lie under media/; null for none"),
    Column("tools", pa.string(), "tool definitions offered to the model, JSON; null for none"),
    Column("parent_id", pa.string(), "id of the row this one was made from; null for a source row"),
    Column("meta", pa.string(), "further fields of the source, a JSON object; null for none"),
    Column("scores", pa.list_(SCORE), "scores of this row; value is null where scoring failed, error says why"),
    Column("evidence", pa.list_(EVIDENCE), "measures written by filters, each in the unit its step documents"),
    Column(
        "flags",
        pa.list_(FLAG),
        "why the row was dropped; null or empty for a kept row; other is what it lost to: the id of a row, of an earlier version "
        "too, or a quotation",
    ),
]
RESPONSE_COLUMNS = [
    Column("response_id", pa.string(), "128 bits of sha256 over prompt, text, model, seed and sample, hex"),
    Column("response", pa.string(), "text of the last assistant message; null where generation failed"),
    Column("turns", pa.list_(MESSAGE), "the whole completion where it is more than one assistant message; else null"),
    Column("reasoning", pa.string(), "reasoning split off from the response; null for none"),
    Column("model", pa.string(), "model that wrote the response; null if not told"),
    Column("policy", pa.string(), "on, off or unknown: whether the model being trained wrote it; null means unknown"),
    Column("sampling", pa.string(), "sampling parameters, a JSON object; null if not told"),
    Column("seed", pa.int64(), "sampling seed; null if not told"),
    Column("sample", pa.int32(), "index among the samples of one (prompt, model); null if not told"),
    Column("finish_reason", pa.string(), "why generation ended: stop, length, ...; null if not told"),
    Column("prompt_tokens", pa.int32(), "tokens of the prompt in the model's tokenizer; null if not told"),
    Column("response_tokens", pa.int32(), "tokens of the response in the model's tokenizer; null if not told"),
    Column("logprob_sum", pa.float32(), "sum of the response's token log-probabilities, nats; null if not told"),
]
PAIR_COLUMNS = [
    Column("pair_id", pa.string(), "128 bits of sha256 over the ids of both sides, in order, and the goal, hex"),
    Column("chosen", pa.string(), "text of the preferred response"),
    Column("rejected", pa.string(), "text of the other response"),
    Column("chosen_turns", pa.list_(MESSAGE), "the whole chosen completion where it is more than one message; else null"),
    Column("rejected_turns", pa.list_(MESSAGE), "the whole rejected completion where it is more than one message; else null"),
    Column("chosen_id", pa.string(), "response_id of the chosen side"),
    Column("rejected_id", pa.string(), "response_id of the rejected side"),
    Column("chosen_model", pa.string(), "model that wrote the chosen side; null if not told"),
    Column("rejected_model", pa.string(), "model that wrote the rejected side; null if not told"),
    Column("chosen_scores", pa.list_(SCORE), "scores of the chosen side"),
    Column("rejected_scores", pa.list_(SCORE), "scores of the rejected side"),
    Column("votes", pa.list_(VOTE), "verdicts on the pair: p_chosen in [0, 1] as shown, p_swapped with the sides exchanged"),
    Column("margin", pa.float32(), "score of chosen minus score of rejected, in the rater's unit; null where not scored"),
    Column("label_prob", pa.float32(), "probability that the label is right, in [0, 1]; null where not estimated"),
    Column("weight", pa.float32(), "weight of the pair in training; null counts as 1"),
    Column("difficulty", pa.float32(), "difficulty of the pair, larger is harder; null where not estimated"),
    Column("stage", pa.int32(), "stage of a curriculum, from 0; null for none"),
    Column("split", pa.string(), "train, validation or test; null counts as train"),
    Column("goal", pa.string(), "target score(s) this pair is conditioned on, a JSON object {name: number}; null for none"),
    Column("origin", pa.string(), "observed, goal_chosen, goal_rejected or flipped"),
    Column("spans", pa.list_(SPAN), "weighted spans of characters within a side; null for none"),
]
COLUMNS: dict[Grain, list[Column]] = {
    "prompts": PROMPT_COLUMNS,
    "responses": PROMPT_COLUMNS + RESPONSE_COLUMNS,
    "pairs": PROMPT_COLUMNS + PAIR_COLUMNS,
}
SCHEMAS: dict[Grain, pa.Schema] = {
    grain: pa.schema([pa.field(c.name, c.type, metadata={"meaning": c.meaning}) for c in columns])
    for grain, columns in COLUMNS.items()
}
ONE_WRITER = ("margin", "label_prob", "weight", "difficulty", "stage", "split", "goal")
"""Columns with a single value: a second writer in a recipe is an error unless it says `replace: true`."""


def empty(grain: Grain) -> pa.Table:
    """A table of no rows."""
    return bare(SCHEMAS[grain].empty_table())


def bare(table: pa.Table) -> pa.Table:
    """The table without field metadata, so that equal columns make equal files."""
    return table.cast(pa.schema([pa.field(f.name, f.type) for f in table.schema]))


def conform(table: pa.Table, grain: Grain) -> pa.Table:
    """The table with all columns of its grain in their order; absent ones are null. Unknown columns are an error."""
    schema = SCHEMAS[grain]
    unknown = sorted(set(table.column_names) - set(schema.names))
    if unknown:
        raise ValueError(f"a {grain} table has no column {', '.join(unknown)}")
    columns = []
    for field in schema:
        if field.name in table.column_names:
            column = table[field.name]
            columns.append(column if column.type == field.type else column.cast(field.type))
        else:
            columns.append(pa.nulls(table.num_rows, field.type))
    return pa.table(columns, schema=pa.schema([pa.field(f.name, f.type) for f in schema]))


def from_rows(rows: Iterable[Mapping[str, Any]], grain: Grain) -> pa.Table:
    """A table from row dictionaries; absent keys are null, unknown keys an error."""
    listed = list(rows)
    unknown = sorted({key for row in listed for key in row} - set(SCHEMAS[grain].names))
    if unknown:
        raise ValueError(f"a {grain} table has no column {', '.join(unknown)}")
    return bare(pa.Table.from_pylist([dict(row) for row in listed], schema=SCHEMAS[grain]))


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _counts(lists: pa.Array) -> np.ndarray:
    lengths: np.ndarray = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64)


def structs(kind: pa.StructType, length: int, **fields: Any) -> pa.StructArray:
    """A struct array of `length` entries; a field is a scalar for all, an array, or absent for null."""
    unknown = set(fields) - {f.name for f in kind}
    if unknown:
        raise ValueError(f"no field {', '.join(sorted(unknown))} in {kind}")
    return pa.StructArray.from_arrays([_field_array(fields.get(f.name), f.type, length) for f in kind], fields=list(kind))


def _field_array(value: Any, kind: pa.DataType, length: int) -> pa.Array:
    if isinstance(value, np.ndarray):
        nan = np.isnan(value) if value.dtype.kind == "f" else None
        return pa.array(value, mask=nan).cast(kind)
    if isinstance(value, (pa.Array, pa.ChunkedArray)):
        return flat(value).cast(kind)
    if isinstance(value, list):
        return pa.array(value, kind)
    return pa.nulls(length, kind) if value is None else pa.repeat(pa.scalar(value, kind), length)


def append(lists: pa.Array | pa.ChunkedArray, entries: pa.StructArray, rows: np.ndarray | None = None) -> pa.Array:
    """The list column with one entry more at each of `rows`; no list is overwritten.

    lists: (N,) list column, null counts as empty. entries: (M,) structs of its value type. rows: (M,) ascending row
    numbers, repeats allowed; None means one entry for every row (M = N).
    """
    lists = flat(lists)
    total = len(lists)
    rows = np.arange(total, dtype=np.int64) if rows is None else np.asarray(rows, dtype=np.int64)
    if len(rows) != len(entries):
        raise ValueError(f"{len(entries)} entries for {len(rows)} rows")
    if len(rows) and (np.diff(rows) < 0).any():
        raise ValueError("rows must ascend")
    old_counts, new_counts = _counts(lists), np.bincount(rows, minlength=total).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(old_counts + new_counts)])
    kind = lists.type.value_type
    entries = entries.cast(kind)
    if old_counts.any():
        # every old entry moves up by the new entries of earlier rows, every new one by the old entries up to its row
        order = np.empty(offsets[-1], dtype=np.int64)
        old_total = int(old_counts.sum())
        new_before = np.concatenate([[0], np.cumsum(new_counts)[:-1]])
        order[np.arange(old_total) + np.repeat(new_before, old_counts)] = np.arange(old_total)
        order[np.arange(len(rows)) + np.cumsum(old_counts)[rows]] = old_total + np.arange(len(rows))
        entries = pa.concat_arrays([lists.flatten(), entries]).take(pa.array(order))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), entries, type=lists.type)


def concat_lists(first: pa.Array | pa.ChunkedArray, second: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Row by row, the entries of `first` followed by those of `second`."""
    second = flat(second)
    return append(first, second.flatten(), np.repeat(np.arange(len(second)), _counts(second)))


def add_flags(
    table: pa.Table, dropped: np.ndarray, by: str, reason: str | pa.Array, value: Any = None, other: Any = None
) -> pa.Array:
    """The `flags` column with one flag more where `dropped`. reason, value and other: scalars or (N,) arrays."""
    rows = np.flatnonzero(dropped)
    at = pa.array(rows)

    def pick(item: Any) -> Any:
        if isinstance(item, np.ndarray):
            return item[rows]
        return flat(item).take(at) if isinstance(item, (pa.Array, pa.ChunkedArray)) else item

    flags = structs(FLAG, len(rows), by=by, reason=pick(reason), value=pick(value), other=pick(other))
    return append(table["flags"], flags, rows)


def add_scores(table: pa.Table, values: np.ndarray, rater: str, aspect: str, column: str = "scores", **fields: Any) -> pa.Array:
    """The score column with one score more for every row; NaN is stored as null. fields: rationale, error, ..."""
    return append(table[column], structs(SCORE, table.num_rows, rater=rater, aspect=aspect, value=values, **fields))


def add_evidence(table: pa.Table, values: np.ndarray, by: str, name: str) -> pa.Array:
    """The `evidence` column with one measure more for every row; NaN is stored as null."""
    return append(table["evidence"], structs(EVIDENCE, table.num_rows, by=by, name=name, value=values))


def value_of(
    lists: pa.Array | pa.ChunkedArray, value: str = "value", round: int | None = None, **where: str | None
) -> np.ndarray:
    """Each row's matching entry's value, (N,) float32; NaN where no entry matches or its value is null.

    Of several entries the last counts, of each round the last; rounds are averaged, those without a value left out.
    round: this one alone. where: field=text an entry must equal; a field given as None matches any.
    """
    lists = flat(lists)
    out = np.full(len(lists), np.nan, dtype=np.float32)
    entries = lists.flatten()
    if not len(entries):
        return out
    match = np.ones(len(entries), dtype=bool)
    for field, text in where.items():
        if text is not None:
            equal = pc.fill_null(pc.equal(pc.struct_field(entries, field), text), False)
            match &= equal.to_numpy(zero_copy_only=False)
    rounds = _rounds(entries)
    if round is not None:
        match &= rounds == round
    parents = np.repeat(np.arange(len(lists)), _counts(lists))[match]
    values = pc.struct_field(entries, value).cast(pa.float32()).to_numpy(zero_copy_only=False)[match]
    told = rounds[match]
    if (told == told[:1]).all():
        out[parents] = values  # later entries of a row come later: the last one stays
        return out
    return _mean_of_rounds(parents, told, values, out)


def _rounds(entries: pa.StructArray) -> np.ndarray:
    """The round of each entry; 0 where it tells none."""
    if entries.type.get_field_index("round") < 0:
        return np.zeros(len(entries), dtype=np.int64)
    rounds: np.ndarray = pc.fill_null(pc.struct_field(entries, "round"), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return rounds


def _mean_of_rounds(parents: np.ndarray, rounds: np.ndarray, values: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Per row the mean of the last value of each round; NaN stays where no round has one."""
    width = int(rounds.max()) + 1
    last = np.full((len(out), width), np.nan, dtype=np.float32)
    last[parents, rounds] = values
    told = ~np.isnan(last)
    count = told.sum(axis=1)
    total = np.where(told, last, 0.0).sum(axis=1, dtype=np.float64)
    mean: np.ndarray = np.divide(total, count, out=out.astype(np.float64), where=count > 0).astype(np.float32)
    return mean


def score_of(
    table: pa.Table, rater: str | None, aspect: str | None = None, column: str = "scores", round: int | None = None
) -> np.ndarray:
    """Each row's score by a rater, rounds averaged, (N,) float32; NaN where it has none. aspect None: any aspect."""
    return value_of(table[column], round=round, rater=rater, aspect=aspect)


def split_rater(by: str) -> tuple[str, str | None]:
    """A recipe's `rater` or `rater:aspect` as (rater, aspect or None for any)."""
    rater, colon, aspect = by.rpartition(":")
    return (rater, aspect) if colon else (by, None)


def raters(lists: pa.Array | pa.ChunkedArray) -> list[tuple[str, str]]:
    """The distinct (rater, aspect) of a score or vote column, sorted; a null aspect is the empty text."""
    entries = flat(lists).flatten()
    if not len(entries):
        return []
    table = pa.table({"rater": pc.struct_field(entries, "rater"), "aspect": pc.fill_null(pc.struct_field(entries, "aspect"), "")})
    distinct = table.group_by(["rater", "aspect"]).aggregate([])
    return sorted((row["rater"], row["aspect"]) for row in distinct.to_pylist())


def is_kept(table: pa.Table) -> np.ndarray:
    """Which rows carry no flag, (N,) bool."""
    kept: np.ndarray = _counts(flat(table["flags"])) == 0
    return kept


def text_bytes(table: pa.Table) -> int:
    """Bytes of the table in memory: what bounds a shard."""
    return int(table.nbytes)


def text_fault(text: str) -> str | None:
    """Why a text cannot be stored (a NUL or a lone surrogate, with its character position from 1), or None."""
    nul = text.find("\0")
    if nul >= 0:
        return f"NUL character at character {nul + 1}"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"lone surrogate U+{ord(text[error.start]):04X} at character {error.start + 1}"
    return None
