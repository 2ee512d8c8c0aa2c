"""Measure what needs no model: length, refusal, truncation, language, template left-overs and repetition."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate import tables
from curate.maths import detectors
from curate.operator import RunsOn, ShardOperator
from curate.tables import Grain

Measure = Literal["characters", "words", "refusal", "truncated", "language", "template", "repetition"]
Fault = Literal["refusal", "truncated", "language", "template", "repetition"]

NO_TEXT = "no text"
SIDES: dict[Grain, dict[str, str]] = {
    "responses": {"response": "scores"},
    "pairs": {"chosen": "chosen_scores", "rejected": "rejected_scores"},
}
INVISIBLE = r"[\s\x1c-\x1f\p{Mn}\p{Me}\p{Cf}]"  # what `detectors.characters` does not count, as polars writes it


class Measured(NamedTuple):
    """One measure of every row."""

    values: np.ndarray
    """(N,) float32; NaN where it could not be told."""
    rationale: list[str | None] | None = None


class Features(ShardOperator):
    """Scores with one aspect per measure; on pairs of both sides.

    characters, words: counts. refusal, truncated, template: 1 or 0, template's rationale is what was found.
    language: 1 if the text is in the language wanted, else 0, null where either is unknown; its rationale is the code
    found. repetition: share of the text, in [0, 1], that repeats itself. A null text has null scores and an error.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("responses", "pairs")

    measures: tuple[Measure, ...] = Field(default=get_args(Measure), min_length=1, description="What is measured.")
    language: str | None = Field(
        default=None, pattern=r"^[a-z]{2}$", description="Language wanted, ISO 639-1; null: that of the last user message."
    )
    drop: tuple[Fault, ...] = Field(
        default=(),
        description=f"Rows to drop, by measure: refusals, cut or templated texts, another language than wanted, repetition of at "
        f"least {detectors.REPETITIVE}. On pairs either side is enough. The first that applies is the reason.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        unmeasured = [measure for measure in self.drop if measure not in self.measures]
        if unmeasured:
            raise ValueError(f"`drop` names {', '.join(unmeasured)}, which `measures` leaves out")
        if len(set(self.measures)) < len(self.measures):
            raise ValueError("`measures` names one twice")
        return self

    @property
    def runs_on(self) -> RunsOn:
        """Python looks at every text."""
        return "process"

    def reads(self, grain: Grain) -> set[str]:
        """The texts, the prompt where its language is wanted, and why generation ended."""
        columns = set(SIDES[grain])
        if "language" in self.measures and self.language is None:
            columns.add("prompt")
        if "truncated" in self.measures and grain == "responses":
            columns.add("finish_reason")
        return columns

    def writes(self, grain: Grain) -> set[str]:
        """One score per measure and side, and the flags if rows are dropped."""
        scores = {f"{column}.{self.name}.{measure}" for column in SIDES[grain].values() for measure in self.measures}
        return scores | ({"flags"} if self.drop else set())

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The scores of every text, and flags where a `drop` applies."""
        sides = SIDES["pairs" if "chosen" in table.column_names else "responses"]
        measured = {side: self._measure(table, side) for side in sides}
        columns = {column: self._scores(table, side, column, measured[side]) for side, column in sides.items()}
        return pa.table(columns | ({"flags": self._flags(table, measured)} if self.drop else {}))

    def _measure(self, table: pa.Table, side: str) -> dict[Measure, Measured]:
        texts = table[side].to_pylist()
        simple: dict[Measure, Callable[[], Measured]] = {
            "characters": lambda: Measured(_characters(table[side])),
            "words": lambda: _each(detectors.words, texts),
            "refusal": lambda: _each(detectors.refusal, texts),
            "truncated": lambda: _truncated(table, texts),
            "language": lambda: self._languages(table, texts),
            "template": lambda: _template(texts),
            "repetition": lambda: _each(detectors.repetition, texts),
        }
        return {measure: simple[measure]() for measure in self.measures}

    def _languages(self, table: pa.Table, texts: list[str | None]) -> Measured:
        found = [None if text is None else detectors.language(text)[0] for text in texts]
        wanted = [self.language] * len(texts) if self.language else _prompt_languages(table)
        values = [
            np.nan if code is None or want is None else float(code == want) for code, want in zip(found, wanted, strict=True)
        ]
        return Measured(np.array(values, dtype=np.float32), found)

    def _scores(self, table: pa.Table, side: str, column: str, measured: dict[Measure, Measured]) -> pa.Array:
        """The side's scores with all measures appended, in the order of `measures`."""
        rows, error = table.num_rows, _no_text(table[side])
        parts = [
            tables.structs(tables.SCORE, rows, rater=self.name, aspect=name, value=m.values, rationale=m.rationale, error=error)
            for name, m in measured.items()
        ]
        # measure after measure becomes row after row
        order = np.arange(rows * len(parts)).reshape(len(parts), rows).T.ravel()
        entries = pa.concat_arrays(parts).take(pa.array(order))
        return tables.append(table[column], entries, np.repeat(np.arange(rows), len(parts)))

    def _flags(self, table: pa.Table, measured: dict[str, dict[Measure, Measured]]) -> pa.Array:
        """One flag for each row to drop: the first of `drop` that applies, with the value of the first side it applies to."""
        reason = np.full(table.num_rows, -1)
        value = np.full(table.num_rows, np.nan, dtype=np.float32)
        for place, measure in enumerate(self.drop):
            for side in measured.values():
                values = side[measure].values
                fires = (reason < 0) & _is_fault(measure, values)
                reason[fires], value[fires] = place, values[fires]
        names = pa.array(self.drop, pa.string()).take(pa.array(reason, mask=reason < 0))
        return tables.add_flags(table, reason >= 0, self.name, names, value)


def _is_fault(measure: Fault, values: np.ndarray) -> np.ndarray:
    """Where a measure speaks against the row; NaN never does."""
    faulty: np.ndarray
    if measure == "repetition":
        faulty = values >= np.float32(detectors.REPETITIVE)
    else:
        faulty = values == (0 if measure == "language" else 1)
    return faulty


def _no_text(texts: pa.ChunkedArray) -> pa.Array | None:
    if texts.null_count == 0:
        return None
    return pc.if_else(pc.is_null(texts), NO_TEXT, pa.scalar(None, pa.string()))


def _each(detector: Callable[[str], float], texts: list[str | None]) -> Measured:
    values = [np.nan if text is None else detector(text) for text in texts]
    return Measured(np.array(values, dtype=np.float32))


def _characters(texts: pa.ChunkedArray) -> np.ndarray:
    """`detectors.characters` of every text at once, (N,) float32; NaN for null."""
    import polars as pl

    series = pl.Series("text", pl.from_arrow(texts), dtype=pl.String)
    visible = series.str.normalize("NFC").str.replace_all(INVISIBLE, "").str.len_chars()
    counts: np.ndarray = visible.cast(pl.Float32).to_numpy().astype(np.float32)
    return counts


def _truncated(table: pa.Table, texts: list[str | None]) -> Measured:
    reasons: list[Any] = table["finish_reason"].to_pylist() if "finish_reason" in table.column_names else [None] * len(texts)
    values = [np.nan if text is None else detectors.truncation(text, reason) for text, reason in zip(texts, reasons, strict=True)]
    return Measured(np.array(values, dtype=np.float32))


def _template(texts: list[str | None]) -> Measured:
    found = [None if text is None else detectors.template_leftover(text) for text in texts]
    values = [np.nan if text is None else float(piece is not None) for text, piece in zip(texts, found, strict=True)]
    return Measured(np.array(values, dtype=np.float32), found)


def _prompt_languages(table: pa.Table) -> list[str | None]:
    """Language of each prompt's last user message, each distinct message read once; None where unknown."""
    asked = _last_user_message(table["prompt"]).dictionary_encode()
    codes = [None if text is None else detectors.language(text)[0] for text in asked.dictionary.to_pylist()]
    return [None if index is None else codes[index] for index in asked.indices.to_pylist()]


def _last_user_message(prompts: pa.ChunkedArray) -> pa.Array:
    """Text of each prompt's last user message; null where there is none."""
    lists = prompts.combine_chunks()
    messages = lists.flatten()
    from_user = pc.fill_null(pc.equal(pc.struct_field(messages, "role"), "user"), False).to_numpy(zero_copy_only=False)
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    last = np.full(len(lists), -1, dtype=np.int64)
    last[parents[from_user]] = np.flatnonzero(from_user)  # later messages overwrite earlier ones
    return pc.struct_field(messages, "content").take(pa.array(last, mask=last < 0))
