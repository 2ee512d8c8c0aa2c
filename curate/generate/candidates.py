"""Rows of the responses table: what a prompt carries along, and what was answered to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.generate.conversation import Answer, Ask
from curate.generate.messages import Message
from curate.generate.sampled import AT_ONCE, meta_with, response_id_of, with_column, with_errors
from curate.ids import canonical_json

ASPECT = "generate"
CARRIED = [c.name for c in tables.PROMPT_COLUMNS if c.name not in ("row", "flags")]
TYPES = {column.name: column.type for column in tables.COLUMNS["responses"]} | {"error": pa.string()}


@dataclass(frozen=True)
class Candidates:
    """What the responses of a step have in common."""

    step: str
    names: Mapping[str, str]
    """What rows call a model, by its key."""
    policies: Mapping[str, str]
    sampling: str
    """How all were drawn, as JSON."""
    logprobs: bool
    """Whether sums of log-probabilities are kept."""

    def answered(self, metas: pa.ChunkedArray, asks: Sequence[Ask], answers: Sequence[Answer]) -> pa.Table:
        """What responses have beside what they carry: a row an answer, with the prompt's place and the error.

        metas: the prompts' own. asks, answers: at least one, aligned.
        """
        columns = dict(zip(Answer._fields, zip(*answers, strict=True), strict=True))
        places, prompts, keys, about, requests = zip(*asks, strict=True)
        values = {name: columns[name] for name in Answer._fields if self.logprobs or name != "logprob_sum"} | {
            "response_id": self._ids(asks, columns["response"], columns["turns"]),
            "model": [self.names[key] for key in keys],
            "policy": [self.policies[key] for key in keys],
            "seed": [request.seed for request in requests],
            "sample": [request.sample for request in requests],
        }
        if any(about):
            told = metas.take(pa.array(places, pa.int64())).to_pylist()
            values["meta"] = [meta_with(meta, more) for meta, more in zip(told, about, strict=True)]
        arrays = {name: pa.array(column, TYPES[name]) for name, column in values.items()}
        sampling = pa.repeat(pa.scalar(self.sampling, pa.string()), len(asks))
        return pa.table(arrays | {"place": pa.array(places, pa.int64()), "sampling": sampling})

    def rows(self, table: pa.Table, answered: pa.Table) -> pa.Table:
        """The responses table without `row`. table: the prompts. answered: all of their answers."""
        columns = carried(table, answered["place"].to_numpy())
        own = {name: answered[name] for name in answered.column_names if name not in ("place", "error")}
        failed = answered["error"].is_valid().to_numpy()
        errors = zip(np.flatnonzero(failed).tolist(), answered["error"].drop_null().to_pylist(), strict=True)
        columns["scores"] = with_errors(columns["scores"], self.step, ASPECT, list(errors))
        rows = tables.conform(pa.table(columns | own), "responses").drop_columns(["row"])
        return with_column(rows, "flags", self._flags(rows, failed))

    def _ids(self, asks: Sequence[Ask], responses: Sequence[str | None], turns: Sequence[list[Message] | None]) -> list[str]:
        """The response's id: turns, and what was drawn for it, tell it from others as well."""
        ids = []
        for (_, prompt_id, key, about, request), response, spoken in zip(asks, responses, turns, strict=True):
            more = [canonical_json(value) for value in (spoken, about) if value] if spoken or about else ()
            ids.append(response_id_of(prompt_id, response, self.names[key], request.seed, request.sample, *more))
        return ids

    def _flags(self, rows: pa.Table, failed: np.ndarray) -> pa.Array:
        """A flag on each row that is no response."""
        empty = pc.and_(pc.equal(rows["response"], ""), pc.is_null(rows["turns"]))
        empty = pc.fill_null(empty, False).to_numpy()
        reasons = pa.array(np.where(failed, "error", "empty"), pa.string())
        return tables.add_flags(rows, failed | empty, self.step, reasons)


def carried(table: pa.Table, places: np.ndarray) -> dict[str, pa.ChunkedArray]:
    """The prompts' columns for rows made of them, part by part: an array of texts has room for two gigabytes."""
    parts = [picked(table.select(CARRIED), places[start : start + AT_ONCE]) for start in range(0, len(places), AT_ONCE)]
    whole = pa.concat_tables(parts).combine_chunks()
    return {name: whole[name] for name in CARRIED}


def picked(table: pa.Table, places: np.ndarray) -> pa.Table:
    """Some rows; no text is copied where they follow each other."""
    if (np.diff(places) == 1).all():
        return table.slice(int(places[0]), len(places))
    return table.take(pa.array(places, pa.int64()))
