"""The responses of each prompt side by side: views of a version's `responses`, made when they are exported."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.errors import ExportError, UsageError
from curate.export import messages, series
from curate.export.format import Run, shortest
from curate.store.versions import data_files, read_version

COLUMNS = ["row", "prompt_id", "prompt", "tools", "response_id", "response", "turns", "scores"]
NUMBER = "prompt number"
OPERATOR = "pair"
GROWN = ("tree", "cross_system")
"""Ways of pairing in which the conversation answered is more than the prompt."""


def check(run: Run) -> None:
    """Refuse a version that keeps no responses, or whose pairs compare responses to different conversations."""
    if run.grain == "responses":
        return
    step = series.last_step(run, OPERATOR)
    if step is None or not data_files(run.version, "responses/"):
        raise ExportError(
            f"{run.version} was made of pairs and keeps no responses to list: make it of responses (`pair` in the recipe), or "
            f"export its pairs, as trl-dpo for example"
        )
    how = step["parameters"].get("how")
    if how in GROWN:
        raise ExportError(f"{run.version} was paired with how: {how}, so its prompts' responses answer different conversations")


def score_column(run: Run) -> str:
    """The score column whose raters the manifest tells: that of the version's own rows."""
    return "scores" if run.grain == "responses" else "chosen_scores"


def rated_by(run: Run) -> tuple[str, str | None]:
    """The score series that orders lists: --by, else what the recipe paired by, else the only one there is."""
    column = score_column(run)
    step = series.last_step(run, OPERATOR)
    by = run.options.by or (step["parameters"].get("by") if step else None)
    if by is not None:
        return series.meant(run, by, column)
    there = series.known(run, column)
    if len(there) != 1:
        raise UsageError(
            f"a list needs one score of each response: {run.version} has {len(there)}, say --by (scores: {series.named(there)})"
        )
    return there[0]


def responses(run: Run, split: str) -> Iterator[pa.Table]:
    """Responses of a split, all those of a prompt in one table, each table in the order of `row`.

    Of a version of pairs, those that reached the step `pair`, whether it took them or not, of prompts with a kept pair. A
    prompt's responses lie near each other, kept and dropped ones in files of their own; only what is incomplete is held.
    """
    first, *others = _streams(run, split)
    waiting: list[pa.Table] = []
    while (table := first.next()) is not None:
        parts = [*waiting, table]
        over = first.ends_P < first.read
        for other in others:
            until = other.ends_P[over].max(initial=-1)
            while other.read <= until and (more := other.next()) is not None:
                parts.append(more)
        both = pa.concat_tables(parts)
        numbers = both[NUMBER].to_numpy()
        complete = np.all([stream.ends_P[numbers] < stream.read for stream in (first, *others)], axis=0)
        waiting = [both.filter(pa.array(~complete))]
        if complete.any():
            yield both.filter(pa.array(complete)).drop_columns([NUMBER]).sort_by("row")


@dataclass
class _Stream:
    """Responses as they are stored, and which of the wanted prompts each belongs to."""

    tables: Iterator[pa.Table]
    numbers_N: np.ndarray
    """Number of each response's prompt; -1 for a prompt that is not wanted."""
    ends_P: np.ndarray
    """Place of each prompt's last response; -1 for none."""
    read: int = 0

    def next(self) -> pa.Table | None:
        """The wanted responses of the next table, with the number of their prompt; None at the end."""
        table = next(self.tables, None)
        if table is None:
            return None
        numbers = self.numbers_N[self.read : self.read + table.num_rows]
        self.read += table.num_rows
        return table.append_column(NUMBER, pa.array(numbers)).filter(pa.array(numbers >= 0))


def _streams(run: Run, split: str) -> list[_Stream]:
    """The kept responses, among which every wanted prompt has one; of a version of pairs also those that made none."""
    schema = run.columns("responses")
    columns = [name for name in COLUMNS if name in schema.names]
    wanted = pc.unique(_column(run.read(split, ["prompt_id"])))
    streams = []
    for tables_of in (_kept, _left_over) if run.grain == "pairs" else (_kept,):
        prompts = _column(tables_of(run, split, ["prompt_id"]))
        numbers: np.ndarray = pc.fill_null(pc.index_in(prompts, wanted), -1).to_numpy().astype(np.int64)
        ends = np.full(len(wanted), -1, dtype=np.int64)
        known = np.flatnonzero(numbers >= 0)
        ends[numbers[known]] = known  # ascending: the last of a prompt stays
        streams.append(_Stream(tables_of(run, split, columns), numbers, ends))
    return streams


def _column(found: Iterator[pa.Table]) -> pa.ChunkedArray:
    """The one column of some tables."""
    return pa.chunked_array([chunk for table in found for chunk in table["prompt_id"].chunks], pa.string())


def _kept(run: Run, split: str, columns: list[str]) -> Iterator[pa.Table]:
    """Responses that are the version's rows, or are in a pair of any split."""
    folder = "responses/" if run.grain == "pairs" else f"responses/{split}-"
    return (table.select(columns) for table in read_version(run.version, folder, columns))


def _left_over(run: Run, split: str, columns: list[str]) -> Iterator[pa.Table]:
    """Responses that the step `pair` made no pair of."""
    step = series.last_step(run, OPERATOR)
    gone = read_version(run.version, "dropped/responses", [*columns, "dropped_by"])
    return (table.filter(pc.equal(table["dropped_by"], step["name"] if step else "")).select(columns) for table in gone)


class Ranked(NamedTuple):
    """Responses of whole prompts, those of a prompt side by side, the best first."""

    table: pa.Table
    scores: np.ndarray
    """(N,) float32."""
    starts: np.ndarray
    """Row of each prompt's best response, (P,)."""
    counts: np.ndarray
    """Responses of each prompt, (P,)."""

    def lists(self, column: pa.Array | pa.ChunkedArray) -> pa.ListArray:
        """A column of responses as a list for each prompt."""
        offsets = pa.array(np.concatenate([self.starts, [len(self.scores)]]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, tables.flat(column))

    def rewards(self) -> pa.ListArray:
        """The scores as a list for each prompt, falling, as they print."""
        return self.lists(shortest(pa.chunked_array([self.scores])))

    def only(self, kept_P: np.ndarray) -> "Ranked":
        """Some of the prompts."""
        rows = np.repeat(kept_P, self.counts)
        counts = self.counts[kept_P]
        return Ranked(self.table.filter(pa.array(rows)), self.scores[rows], np.cumsum(counts) - counts, counts)

    def prompts(self) -> pa.Table:
        """The columns of the prompts, one row each."""
        names = [name for name in ("prompt", "tools", "prompt_id") if name in self.table.column_names]
        return self.table.select(names).take(pa.array(self.starts))


def ranked(run: Run, split: str, least: int) -> Iterator[Ranked]:
    """The responses of a split's prompts by falling score; equal scores keep their order, and stay.

    Left out, and counted: responses without text, without score, or with the text of a better one of their prompt; prompts
    with fewer than `least` after that.
    """
    rater, aspect = rated_by(run)
    for table in responses(run, split):
        every = pc.unique(table["prompt_id"])
        table = answered(table, run)
        scores = tables.score_of(table, rater, aspect)
        known = np.isfinite(scores)
        run.leave_out("unscored", ~known, table["response_id"])
        table, scores = table.filter(pa.array(known)), scores[known]
        prompts: np.ndarray = pc.index_in(table["prompt_id"], every).to_numpy(zero_copy_only=False).astype(np.int64)
        order = np.lexsort((np.arange(len(scores)), -scores, prompts))
        order = order[_first_of_text(table, prompts, order, run)]
        sizes = np.bincount(prompts[order], minlength=len(every))
        run.leave_out("short", sizes < least, pa.chunked_array([every]))
        enough = sizes[prompts[order]] >= least
        order, counts = order[enough], sizes[sizes >= least]
        if len(order):
            yield Ranked(table.take(pa.array(order)), scores[order], np.cumsum(counts) - counts, counts)


def answered(table: pa.Table, run: Run) -> pa.Table:
    """The responses with a text or turns; the others are counted. ExportError for a prompt without text."""
    hollow = messages.unusable(table["prompt"])
    if hollow.any():
        row = table["prompt_id"][int(np.argmax(hollow))]
        raise ExportError(f"prompt {row} has no text: no trainer can use it; drop such rows in the recipe")
    silent = table["response"].is_null().to_numpy(zero_copy_only=False)
    if "turns" in table.column_names:
        silent &= table["turns"].is_null().to_numpy(zero_copy_only=False)
    run.leave_out("no_response", silent, table["response_id"])
    return table.filter(pa.array(~silent))


def _first_of_text(table: pa.Table, prompts: np.ndarray, order: np.ndarray, run: Run) -> np.ndarray:
    """Which of the ordered responses say what no better one of their prompt says, (N,) bool; those of several turns all do."""
    texts = pc.fill_null(tables.flat(table["response"]), "").dictionary_encode().indices.to_numpy(zero_copy_only=False)
    keys = prompts[order] * (int(texts.max(initial=0)) + 1) + texts[order]
    fresh = np.zeros(len(order), dtype=bool)
    fresh[np.unique(keys, return_index=True)[1]] = True
    fresh |= has_turns(table)[order]
    if not fresh.all():
        run.left_out["repeat"] += int((~fresh).sum())
    return fresh


def has_turns(table: pa.Table) -> np.ndarray:
    """Which responses are more than one message, (N,) bool."""
    if "turns" not in table.column_names:
        return np.zeros(table.num_rows, dtype=bool)
    turns: np.ndarray = table["turns"].is_valid().to_numpy(zero_copy_only=False)
    return turns


def said(table: pa.Table) -> pa.Array:
    """Responses as messages: their turns where they have them, else one by the assistant."""
    kind = table.schema.field("prompt").type
    texts = tables.flat(table["response"])
    entries = tables.structs(kind.value_type, len(texts), role="assistant", content=texts)
    single = pa.ListArray.from_arrays(pa.array(np.arange(len(texts) + 1, dtype=np.int32)), entries, type=kind)
    several = has_turns(table)
    if not several.any():
        return single
    at = np.where(several, len(texts), 0) + np.arange(len(texts))
    return pa.concat_arrays([single, tables.flat(table["turns"]).cast(kind)]).take(pa.array(at))
