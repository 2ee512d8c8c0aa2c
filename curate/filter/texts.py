"""The text of a row that is compared, searched or embedded, and what tells rows of one group from others."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate import tables
from curate.errors import StepError
from curate.tables import Grain

Text = Literal["prompt", "response", "chosen", "rejected", "pair"]
Within = Literal["prompt", "source", "all"]

DEFAULT_TEXT: dict[Grain, Text] = {"prompts": "prompt", "responses": "response", "pairs": "pair"}
ROW_ID: dict[Grain, str] = {"prompts": "prompt_id", "responses": "response_id", "pairs": "pair_id"}
SIDES: dict[Text, tuple[str, ...]] = {
    "prompt": (),
    "response": ("response",),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "pair": ("chosen", "rejected"),
}
TURNS = {"response": "turns", "chosen": "chosen_turns", "rejected": "rejected_turns"}
BETWEEN = "\n\n"


def grain_of(table: pa.Table) -> Grain:
    """The grain of a table that has its id column."""
    for grain in ("pairs", "responses"):
        if ROW_ID[grain] in table.column_names:
            return grain
    return "prompts"


def columns_of(text: Text) -> set[str]:
    """The columns that hold a text."""
    return {"prompt"} if text == "prompt" else {*SIDES[text], *(TURNS[side] for side in SIDES[text])}


def texts_of(table: pa.Table, text: Text) -> list[str | None]:
    """Each row's text, its messages one below the other; None where there is none."""
    if text == "prompt":
        return messages_of(table["prompt"])
    missing = [name for name in SIDES[text] if name not in table.column_names]
    if missing:
        raise StepError(f"column: {text} needs `{missing[0]}`, which {grain_of(table)} do not have")
    sides = [_completions(table, side) for side in SIDES[text]]
    if len(sides) == 1:
        return sides[0]
    return [None if None in row else BETWEEN.join(map(str, row)) for row in zip(*sides, strict=True)]


def messages_of(lists: pa.ChunkedArray) -> list[str | None]:
    """The contents of messages as one text; None for a null list."""
    array = tables.flat(lists)
    contents = pc.fill_null(pc.struct_field(array.flatten(), "content"), "").to_pylist()
    counts = pc.fill_null(pc.list_value_length(array), -1).to_pylist()
    found: list[str | None] = []
    at = 0
    for count in counts:
        found.append(None if count < 0 else contents[at] if count == 1 else BETWEEN.join(contents[at : at + count]))
        at += max(count, 0)
    return found


def _completions(table: pa.Table, side: str) -> list[str | None]:
    texts: list[str | None] = table[side].to_pylist()
    turns = table[TURNS[side]]
    if turns.null_count == len(turns):
        return texts
    return [text if whole is None else whole for text, whole in zip(texts, messages_of(turns), strict=True)]


def characters_of(texts: list[str | None]) -> np.ndarray:
    """Characters of each text, (N,) float32."""
    return np.array([len(text or "") for text in texts], np.float32)


def scopes_of(table: pa.Table, text: Text, within: Within) -> np.ndarray:
    """A number that rows which may be compared have in common, (N,) int64: never rows that differ in images or tools."""
    parts: list[list[str | None]] = []
    if within == "prompt":
        parts.append(table["prompt_id"].to_pylist())
    elif within == "source":
        parts.append(table["source"].to_pylist())
    if text == "prompt":
        parts += [_material(table[name]) for name in ("tools", "images") if table[name].null_count < table.num_rows]
    if not parts:
        return np.zeros(table.num_rows, np.int64)
    told = [repr(row).encode("utf-8", "replace") for row in zip(*parts, strict=True)]
    return np.array([xxhash.xxh3_64_intdigest(one) for one in told], np.uint64).view(np.int64)


def _material(column: pa.ChunkedArray) -> list[str | None]:
    return [None if value is None else str(value) for value in column.to_pylist()]


def scope_columns(text: Text, within: Within) -> set[str]:
    """The columns `scopes_of` reads."""
    named = {"prompt": {"prompt_id"}, "source": {"source"}, "all": set()}[within]
    return named | ({"tools", "images"} if text == "prompt" else set())
