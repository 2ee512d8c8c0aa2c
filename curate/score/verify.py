"""Check answers against a reference: a number, a choice, a pattern or a JSON schema."""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate import tables
from curate.maths.checked_texts import fits_schema, matches_pattern
from curate.maths.choice_answers import final_choice
from curate.maths.number_answers import gold_number, numbers_equal, read_number
from curate.operator import RunsOn, ShardOperator
from curate.tables import Grain

ASPECT = "correct"
NO_TEXT, NO_REFERENCE = "no text", "no reference"
SHOWN = 200  # characters of a rationale
SIDES: dict[Grain, dict[str, str]] = {
    "responses": {"response": "scores"},
    "pairs": {"chosen": "chosen_scores", "rejected": "rejected_scores"},
}


class Verdict(NamedTuple):
    """What a check makes of one text."""

    correct: bool | None
    """None where there is no answer to judge."""
    read: str | None = None
    """What was taken for the answer; for a schema, what breaks it."""
    error: str | None = None
    """Why no answer could be read."""


class Verify(ShardOperator):
    """A score of 1 or 0 (aspect `correct`) for texts that agree or disagree with their reference; on pairs of both sides.

    The rationale is what was read as the answer, or where the text breaks the schema. Null with an error: no text, no
    usable reference, or (unless `unreadable: wrong`) no answer found. Text that should be JSON and is not is wrong.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("responses", "pairs")

    check: Literal["number", "choice", "regex", "json_schema", "auto"] = Field(
        default="auto",
        description="number: the number the text settles on; choice: the letter; regex: the reference is found in the text "
        "(anchor it to match the whole); json_schema: the text is JSON that the reference accepts; auto: whichever the row's "
        "meta names under `check`; a row that names none gets no score.",
    )
    reference: str = Field(default="reference", description="Column with the right answer, the pattern or the schema.")
    letters: str = Field(default="ABCDEFGHIJ", pattern=r"^[A-Z]{2,26}$", description="Letters a choice may be.")
    unreadable: Literal["error", "wrong"] = Field(
        default="error", description="An answer that cannot be found is null with an error, or counts as wrong."
    )
    drop_wrong: bool = Field(default=False, description="Drop rows with a wrong answer; pairs whose chosen side is wrong.")

    @property
    def runs_on(self) -> RunsOn:
        """Python looks at every text."""
        return "process"

    def reads(self, grain: Grain) -> set[str]:
        """The texts, the reference and, for auto, meta."""
        return {*SIDES[grain], self.reference} | ({"meta"} if self.check == "auto" else set())

    def writes(self, grain: Grain) -> set[str]:
        """One score per side, and the flags if rows are dropped."""
        scores = {f"{column}.{self.name}.{ASPECT}" for column in SIDES[grain].values()}
        return scores | ({"flags"} if self.drop_wrong else set())

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The scores, and a flag on what is wrong if `drop_wrong`."""
        sides = SIDES["pairs" if "chosen" in table.column_names else "responses"]
        checks, references = self._checks(table), table[self.reference].cast(pa.string()).to_pylist()
        rows = np.array([row for row, check in enumerate(checks) if check is not None], dtype=np.int64)
        columns, wrong = {}, np.zeros(table.num_rows, dtype=bool)
        for place, (side, column) in enumerate(sides.items()):
            texts = table[side].to_pylist()
            verdicts = [self._verdict(checks[row], texts[row], references[row]) for row in rows]
            columns[column] = tables.append(table[column], self._entries(verdicts), rows)
            if place == 0:
                wrong[rows] = [verdict.correct is False for verdict in verdicts]
        if self.drop_wrong:
            columns["flags"] = tables.add_flags(table, wrong, self.name, "wrong", 0.0)
        return pa.table(columns)

    def _checks(self, table: pa.Table) -> list[str | None]:
        """Which check each row asks for; None for none."""
        if self.check != "auto":
            return [self.check] * table.num_rows
        meta = table["meta"].combine_chunks().dictionary_encode()
        named = [_named_check(text) for text in meta.dictionary.to_pylist()]
        return [None if index is None else named[index] for index in meta.indices.to_pylist()]

    def _verdict(self, check: str | None, text: str | None, reference: str | None) -> Verdict:
        if check not in CHECKS:
            return Verdict(None, error=f"unknown check '{check}'; there are {', '.join(CHECKS)}")
        if text is None:
            return Verdict(None, error=NO_TEXT)
        if reference is None:
            return Verdict(None, error=NO_REFERENCE)
        try:
            verdict = CHECKS[check](text, reference, self.letters)
        except ValueError as problem:
            return Verdict(None, error=f"reference cannot be used: {problem}"[:SHOWN])
        except RecursionError:
            return Verdict(None, error="text or schema nested too deeply")
        if verdict.error and self.unreadable == "wrong":
            return verdict._replace(correct=False, error=None)
        return verdict

    def _entries(self, verdicts: list[Verdict]) -> pa.StructArray:
        values = np.array([np.nan if v.correct is None else float(v.correct) for v in verdicts], dtype=np.float32)
        read = [None if v.read is None else v.read[:SHOWN] for v in verdicts]
        errors = [v.error for v in verdicts]
        fields = {"value": values, "rationale": read, "error": errors}
        return tables.structs(tables.SCORE, len(verdicts), rater=self.name, aspect=ASPECT, **fields)


def _named_check(meta: str) -> str | None:
    """What a row's meta names under `check`; None where it names nothing or is no JSON object."""
    try:
        fields = json.loads(meta)
    except (ValueError, RecursionError):
        return None
    check = fields.get("check") if isinstance(fields, dict) else None
    return None if check is None else str(check)


# -- the checks: text, reference and letters in, a verdict out; a reference that cannot be used is a ValueError


def _check_number(text: str, reference: str, letters: str) -> Verdict:
    gold_number(reference)  # a reference without a number is its own fault, not the text's
    try:
        found = read_number(text)
    except ArithmeticError:  # powers can name numbers that no memory holds
        return Verdict(None, error="number too large")
    if found is None:
        return Verdict(None, error="no number found")
    return Verdict(numbers_equal(found, reference), found.text)


def _check_choice(text: str, reference: str, letters: str) -> Verdict:
    gold = re.fullmatch(rf"[\s(\[*]*([{letters}])[\s)\].:*]*", reference.upper())
    if gold is None:
        raise ValueError(f"{reference!r} is none of {letters}")
    found = final_choice(text, letters)
    if found is None:
        return Verdict(None, error="no choice found")
    return Verdict(found == gold[1], found)


def _check_pattern(text: str, reference: str, letters: str) -> Verdict:
    return Verdict(matches_pattern(text, reference))


def _check_schema(text: str, reference: str, letters: str) -> Verdict:
    return Verdict(*fits_schema(text, _schema(reference)))


@lru_cache(maxsize=256)
def _schema(reference: str) -> dict[str, Any]:
    schema = json.loads(reference)
    if not isinstance(schema, dict):
        raise ValueError(f"a JSON schema is an object, got {reference[:40]!r}")
    return schema


CHECKS: dict[str, Callable[[str, str, str], Verdict]] = {
    "number": _check_number,
    "choice": _check_choice,
    "regex": _check_pattern,
    "json_schema": _check_schema,
}
