"""Message lists as columns: compare them, put goals into them, read them as plain values."""

import json
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.errors import ExportError

INSTRUCTING = ("system", "developer")
BREAK = "\n\n"


def is_messages(kind: pa.DataType) -> bool:
    """Whether a column of that type holds messages."""
    return bool(pa.types.is_list(kind) and pa.types.is_struct(kind.value_type) and kind.value_type.get_field_index("role") >= 0)


def lengths(lists: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Entries of each list, (N,) int64; 0 for null."""
    counts: np.ndarray = pc.fill_null(pc.list_value_length(tables.flat(lists)), 0).to_numpy(zero_copy_only=False)
    return counts.astype(np.int64)


def equal(first: pa.Array | pa.ChunkedArray, second: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Whether two columns hold the same messages, row by row, (N,) bool."""
    first, second = tables.flat(first), tables.flat(second)
    counts = lengths(first)
    same: np.ndarray = counts == lengths(second)
    candidates = np.flatnonzero(same)
    left, right = first.take(pa.array(candidates)).flatten(), second.take(pa.array(candidates)).flatten()
    differs = np.zeros(len(left), dtype=bool)
    for field in first.type.value_type:
        a, b = pc.struct_field(left, field.name), pc.struct_field(right, field.name)
        agree = pc.or_(pc.fill_null(pc.equal(a, b), False), pc.and_(a.is_null(), b.is_null()))
        differs |= ~agree.to_numpy(zero_copy_only=False)
    parents = np.repeat(np.arange(len(candidates)), counts[candidates])
    same[candidates] = np.bincount(parents, weights=differs, minlength=len(candidates)) == 0
    return same


def unusable(lists: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Rows without a message, or with one that has neither content nor tool calls, (N,) bool."""
    lists = tables.flat(lists)
    counts, entries = lengths(lists), lists.flatten()
    hollow = pc.struct_field(entries, "content").is_null()
    if lists.type.value_type.get_field_index("tool_calls") >= 0:
        hollow = pc.and_(hollow, pc.struct_field(entries, "tool_calls").is_null())
    parents = np.repeat(np.arange(len(lists)), counts)
    found: np.ndarray = (np.bincount(parents, weights=hollow.to_numpy(zero_copy_only=False), minlength=len(lists)) > 0) | (
        counts == 0
    )
    return found


def place(prompts: pa.Array, texts: pa.Array, where: Literal["system", "user"]) -> pa.Array:
    """The prompts with a text each: as a system message, or before the first user message; null for none.

    prompts: (N,) message lists, none of them empty. An existing system message keeps its text and gets the new one after
    a blank line. ExportError if a prompt that needs it has no user message.
    """
    has = texts.is_valid().to_numpy(zero_copy_only=False)
    counts, entries = lengths(prompts), prompts.flatten()
    starts = np.cumsum(counts) - counts
    roles = pc.struct_field(entries, "role")
    if where == "user":
        at = _first_user(roles, np.repeat(np.arange(len(prompts)), counts), has)
        return _lists(prompts.type, counts, _join(entries, at, texts.filter(pa.array(has)), before=True))
    first = pc.is_in(roles.take(pa.array(starts)), pa.array(INSTRUCTING)).to_numpy(zero_copy_only=False)
    merged = _join(entries, starts[has & first], texts.filter(pa.array(has & first)), before=False)
    alone = has & ~first
    new = tables.structs(prompts.type.value_type, int(alone.sum()), role="system", content=texts.filter(pa.array(alone)))
    return tables.concat_lists(_lists(prompts.type, alone.astype(np.int64), new), _lists(prompts.type, counts, merged))


def _first_user(roles: pa.Array, parents: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Position of the first user message of every row where `needed`, ascending."""
    users = np.flatnonzero(pc.equal(roles, "user").to_numpy(zero_copy_only=False))
    rows, first = np.unique(parents[users], return_index=True)
    if not np.isin(np.flatnonzero(needed), rows).all():
        raise ExportError("a prompt has no user message to put its goal before; use --goal system")
    at: np.ndarray = users[first][needed[rows]]
    return at


def _join(entries: pa.StructArray, at: np.ndarray, texts: pa.Array, before: bool) -> pa.StructArray:
    """The messages with a text put before or after the content of those at the ascending positions `at`."""
    content = pc.struct_field(entries, "content")
    old = pc.fill_null(content.take(pa.array(at)), "")
    both = pc.binary_join_element_wise(*([texts, old] if before else [old, texts]), BREAK)
    mask = np.zeros(len(entries), dtype=bool)
    mask[at] = True
    content = pc.replace_with_mask(content, pa.array(mask), pc.if_else(pc.equal(old, ""), texts, both))
    fields = list(entries.type)
    return pa.StructArray.from_arrays(
        [content if field.name == "content" else pc.struct_field(entries, field.name) for field in fields], fields=fields
    )


def _lists(kind: pa.ListType, counts: np.ndarray, entries: pa.StructArray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32()), entries, type=kind)


def plain(lists: pa.Array | pa.ChunkedArray) -> list[list[dict[str, Any]] | None]:
    """Message lists as plain values: fields that are null left out, tool calls as objects; None for null."""
    lists = tables.flat(lists)
    entries = lists.flatten()
    names = [field.name for field in lists.type.value_type]
    fields = [pc.struct_field(entries, name).to_pylist() for name in names]
    if "tool_calls" in names:
        calls = names.index("tool_calls")
        fields[calls] = [None if text is None else tool_calls(text) for text in fields[calls]]
    told = [
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in zip(*fields, strict=True)
    ]
    ends = np.cumsum(lengths(lists)).tolist()
    rows: list[list[dict[str, Any]] | None] = [told[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)] if ends else []
    if lists.null_count:
        return [row if valid else None for row, valid in zip(rows, lists.is_valid().to_pylist(), strict=True)]
    return rows


def tool_calls(text: str) -> Any:
    """Tool calls as objects, their arguments too: chat templates write arguments as JSON themselves."""
    calls = parsed(text)
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            function["arguments"] = parsed(function["arguments"])
    return calls


def parsed(text: str) -> Any:
    """The value of a JSON text; ExportError if it is none, or spells half a character, which no file can hold."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ExportError(f"a tool call or JSON column holds no JSON ({error}): {text[:60]!r}; mend it at the source") from error
    if "\\ud" in text.lower() and (fault := tables.text_fault(json.dumps(value, ensure_ascii=False).replace("\0", ""))):
        raise ExportError(f"a tool call or JSON column holds a {fault}: {text[:60]!r}; mend it at the source")
    return value
