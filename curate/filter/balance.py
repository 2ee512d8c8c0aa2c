"""Balance rows over the values of a column: so many of each, so many a prompt or cluster, or a mixture by weights."""

import json
import re
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, FiniteFloat, field_validator, model_validator

from curate import tables
from curate.filter.texts import ROW_ID, grain_of
from curate.maths import chance, selection
from curate.maths.planted import refuse_truth
from curate.maths.series import one_series, series_field
from curate.operator import Cut, DatasetOperator
from curate.tables import Grain

ALL: tuple[Grain, ...] = ("prompts", "responses", "pairs")
SHOWN = 40  # characters of a value in a reason


class Balance(DatasetOperator):
    """Drop what is above a quota; the quota is the flag's reason.

    `at_most` keeps so many rows of each value, `quotas` so many of each named value, `weights` a mixture in proportion.
    Writes `place` as evidence: a row's place within its group, from 1, in the order in which rows are kept; null for a row
    without a value, which `at_most` and `quotas` without `other` leave alone.
    """

    takes: ClassVar[tuple[Grain, ...]] = ALL

    by: str = Field(
        description="What rows are grouped by: a text column such as domain, source or model; prompt; meta.FIELD; or "
        "evidence.STEP.NAME, such as a cluster's number."
    )
    at_most: int | None = Field(default=None, ge=1, description="Rows to keep of each value.")
    quotas: dict[str, int] = Field(default={}, description="Value: rows to keep of it.")
    other: int | None = Field(default=None, ge=0, description="With quotas: rows to keep of every value that none names.")
    weights: dict[str, FiniteFloat] = Field(
        default={}, description="Value: its part in the mixture, in any unit; rows of other values are dropped."
    )
    total: int | None = Field(default=None, ge=1, description="With weights: rows in all; as many as there can be if not given.")
    keep: Literal["first", "random", "best"] = Field(
        default="first", description="Which rows of a group stay: the earliest, drawn by a hash of their ids, or scored highest."
    )
    score: str | None = Field(
        default=None,
        description="keep: best: the series that ranks, rater or rater:aspect; of pairs its gap, chosen minus rejected.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the draw.")

    @field_validator("by")
    @classmethod
    def _groupable(cls, by: str) -> str:
        refuse_truth(by.rpartition(".")[2] if by.startswith("evidence.") else "", by)
        if by == "prompt" or by.startswith("meta.") or (by.startswith("evidence.") and by.count(".") >= 2):
            return by
        types = {str(tables.SCHEMAS[g].field(by).type) for g in ALL if by in tables.SCHEMAS[g].names}
        if types != {"string"}:
            raise ValueError(f"by takes a text column, prompt, meta.FIELD or evidence.STEP.NAME, got {by!r}")
        return by

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum([self.at_most is not None, bool(self.quotas), bool(self.weights)]) != 1:
            raise ValueError("give one of at_most, quotas and weights")
        if self.other is not None and not self.quotas:
            raise ValueError("`other` goes with quotas")
        if self.total is not None and not self.weights:
            raise ValueError("`total` goes with weights")
        if min([*self.quotas.values(), *self.weights.values()], default=0) < 0:
            raise ValueError("quotas and weights must not be negative")
        if self.weights and not any(self.weights.values()):
            raise ValueError("at least one weight must be above 0")
        if (self.keep == "best") != (self.score is not None):
            raise ValueError("`score` names the series for `keep: best`; give both or neither")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """What rows are grouped and ranked by."""
        kind = self.by.split(".")[0]
        fields = {"prompt": "prompt_id", "meta": "meta", "evidence": self.by}.get(kind, self.by)
        ranks = set() if self.score is None else {series_field(self.score, column) for column in score_columns(grain)}
        return {fields, ROW_ID[grain]} | ranks

    def writes(self, grain: Grain) -> set[str]:
        """The place, and the flags."""
        return {f"evidence.{self.name}.place", "flags"}

    def cut(self) -> Cut | None:
        """The last place that is kept; quotas and weights have one for each value."""
        return None if self.at_most is None else Cut("place", "<=", self.at_most, "at_most")

    def feature_parameters(self) -> dict[str, Any]:
        """What groups and ranks."""
        return {"by": self.by, "keep": self.keep, "score": self.score, "seed": self.seed}

    def features(self, table: pa.Table, /) -> pa.Table:
        """group: the value, null for none; rank: the lowest stays."""
        return pa.table({"group": _groups(table, self.by), "rank": pa.array(self._rank(table), pa.float64())})

    def decide(self, features: pa.Table, /) -> pa.Table:
        """The row's place in its group, from 1, and why it is dropped, null if it is not."""
        values = features["group"].to_pylist()
        codes, names = selection.numbered(values)
        place = selection.places(codes, features["rank"].to_numpy()) + 1
        none = np.array([value is None for value in values], dtype=bool)
        most = self._limits(codes, names)
        over = (most[codes] >= 0) & (place > most[codes])
        reasons = np.array([self._reason(name) for name in names], dtype=object)
        told = pa.array(reasons[codes] if len(codes) else [], pa.string(), mask=~over)
        return pa.table({"place": pa.array(place, pa.int64(), mask=none), "reason": told})

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The place as evidence, and a flag on what is above the quota."""
        place = state["place"].cast(pa.float32()).to_numpy()
        dropped = pc.is_valid(state["reason"]).to_numpy()
        flags = tables.add_flags(table, dropped, self.name, state["reason"], place)
        return pa.table({"evidence": tables.add_evidence(table, place, self.name, "place"), "flags": flags})

    def _limits(self, codes: np.ndarray, names: list[str | None]) -> np.ndarray:
        """Rows to keep of each group, -1 for no limit."""
        if self.at_most is not None:
            return np.array([-1 if name is None else self.at_most for name in names], dtype=np.int64)
        if self.quotas:
            return selection.limits(names, self.quotas, self.other)
        counts = np.bincount(codes, minlength=len(names))
        # a weight of a value that no row has plays no part: the others are mixed among themselves
        weights = np.array([self.weights.get(name, 0.0) if name is not None else 0.0 for name in names])
        return selection.mixture(counts, weights, self.total)

    def _reason(self, name: str | None) -> str:
        if self.at_most is not None:
            return f"over_{_plain(self.by)}"
        if self.quotas:
            return f"quota_{_plain(name)}" if name in self.quotas else "quota_other"
        return f"mix_{_plain(name)}" if self.weights.get(str(name), 0) > 0 else "mix_unnamed"

    def _rank(self, table: pa.Table) -> np.ndarray:
        """The lowest stays, (N,) float64; NaN, for a row without a score, comes last."""
        grain = grain_of(table)
        if self.keep == "first":
            return np.zeros(table.num_rows)
        if self.keep == "random":
            return chance.uniform(chance.hash_texts(table[ROW_ID[grain]], self.seed))
        return -gap(table, str(self.score), grain).astype(np.float64)


def score_columns(grain: Grain) -> tuple[str, ...]:
    """Where a series stands: of pairs, on both sides."""
    return ("chosen_scores", "rejected_scores") if grain == "pairs" else ("scores",)


def gap(table: pa.Table, by: str, grain: Grain) -> np.ndarray:
    """A row's score, of a pair chosen minus rejected, (N,) float32; NaN where there is none."""
    first, *second = (one_series(table, by, column) for column in score_columns(grain))
    return first - second[0] if second else first


def _groups(table: pa.Table, by: str) -> pa.Array:
    """The value each row is grouped by, as text; null for none."""
    kind, _, rest = by.partition(".")
    if by == "prompt":
        return tables.flat(table["prompt_id"])
    if kind == "meta":
        return pa.array([_field(text, rest) for text in table["meta"].to_pylist()], pa.string())
    if kind == "evidence":
        step, _, name = rest.rpartition(".")
        values = tables.value_of(table["evidence"], by=step, name=name)
        return pa.array([None if np.isnan(value) else f"{value:g}" for value in values.tolist()], pa.string())
    return tables.flat(table[by])


def _field(text: str | None, name: str) -> str | None:
    value = json.loads(text).get(name) if text else None
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _plain(value: str | None) -> str:
    """A value as part of a reason: letters and digits of any script, all else as _."""
    return re.sub(r"\W+", "_", value or "").strip("_")[:SHOWN] or "blank"
