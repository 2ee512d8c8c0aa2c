"""Relabel pairs with the scores as goals: for the lower score, the worse answer is the right one."""

import json
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, FiniteFloat, model_validator

from curate import ids, tables
from curate.maths import chance, scale
from curate.maths.series import one_series, series_field
from curate.operator import DatasetOperator
from curate.tables import Grain

SIDES = ["", "_turns", "_id", "_model", "_scores"]
REASONS = pa.array(["no_score", "other_half", "goal_tie"])


class Goal(DatasetOperator):
    """Each pair becomes two: its goal is the chosen side's score, or the rejected side's with the sides exchanged.

    The reward for answering y under goal g is -(g - r(x, y))^2, so that for the goal r(rejected) the rejected answer
    wins. The second row exchanges everything that belongs to a side: texts, ids, scores, votes, spans, the sign of
    the margin. Both keep the prompt's id and name the original pair as their parent. A pair without a score on both
    sides, or whose goals are equal once rounded, is passed on with a flag.

    Source: Zhang et al., "Reward-Augmented Data Enhances Direct Preference Alignment of LLMs", 2024, arXiv:2410.08067.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)
    makes: ClassVar[Grain | None] = "pairs"
    aligned: ClassVar[bool] = False

    by: str | dict[str, str] = Field(description="The score series (goal name: score), or goal names with a series each.")
    scale: tuple[FiniteFloat, FiniteFloat] | None = Field(
        default=None, description="Lowest and highest goal; where map is none, what scores already keep to."
    )
    map: Literal["none", "linear", "quantile"] = Field(
        default="none", description="How scores reach the scale: as they are, between the extremes, or by rank among all rows."
    )
    round: int | None = Field(default=0, ge=0, le=6, description="Decimals of a goal, halves up; null to leave it unrounded.")
    ties: Literal["drop", "keep_chosen", "keep_both"] = Field(
        default="drop", description="Equal goals: no row, the first row only, or both, which contradict each other."
    )
    half: bool = Field(
        default=False, description="Use only about half of the pairs, drawn by id, so that the size stays the same."
    )
    seed: int = Field(default=0, ge=0, description="Seed of that draw.")
    compat: Literal["released_code"] | None = Field(
        default=None,
        description="released_code: the second row keeps its sides, as the published runs without a system message did.",
    )
    replace: bool = Field(default=False, description="Allow overwriting goals that an earlier step wrote.")

    @model_validator(mode="after")
    def _has_scale(self) -> Self:
        if not self.by:
            raise ValueError("goal needs at least one score series in by")
        if self.map != "none" and self.scale is None:
            raise ValueError(f"map: {self.map} needs a scale, such as [1, 10]")
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError(f"scale must ascend, got {list(self.scale)}")
        return self

    def attributes(self) -> dict[str, str]:
        """Score series by goal name, in the order in which a goal lists them."""
        return {"score": self.by} if isinstance(self.by, str) else dict(sorted(self.by.items()))

    def reads(self, grain: Grain) -> set[str]:
        """The score series, of both sides."""
        return {series_field(by, f"{side}_scores") for by in self.attributes().values() for side in ("chosen", "rejected")}

    def writes(self, grain: Grain) -> set[str]:
        """Goal, origin and the ids that change with them, and a flag on each pair that is not relabelled."""
        return {"goal", "origin", "pair_id", "parent_id", "flags"}

    def feature_parameters(self) -> dict[str, Any]:
        """The score series alone: another scale reuses the scores read."""
        return {"by": self.attributes()}

    def features(self, table: pa.Table, /) -> pa.Table:
        """Both sides' scores, a column for each attribute and side."""
        return pa.table(
            {
                f"{side}.{name}": one_series(table, by, f"{side}_scores")
                for name, by in self.attributes().items()
                for side in ("chosen", "rejected")
            }
        )

    def decide(self, features: pa.Table, /) -> pa.Table:
        """For each attribute the knots that take its scores to shares of the scale; no knots where scores stay as they are."""
        fit = {"none": lambda values: (np.zeros(0), np.zeros(0)), "linear": scale.linear_knots, "quantile": scale.quantile_knots}[
            self.map
        ]
        knots = [fit(_present(features, name)) for name in self.attributes()]
        return pa.table(
            {
                "attribute": pa.array(list(self.attributes()), pa.string()),
                "scores": pa.array([scores for scores, _ in knots], pa.list_(pa.float64())),
                "shares": pa.array([shares for _, shares in knots], pa.list_(pa.float64())),
            }
        )

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """For each pair its two rows, one after the other, or the pair itself with a flag."""
        measured = self.features(table)
        goals_NA = {side: self._goals(measured, state, side) for side in ("chosen", "rejected")}
        unscored = np.isnan(goals_NA["chosen"]).any(axis=1) | np.isnan(goals_NA["rejected"]).any(axis=1)
        unused = self._other_half(table) & ~unscored
        tied = (goals_NA["chosen"] == goals_NA["rejected"]).all(axis=1) & ~unused
        passed = unscored | unused | (tied & (self.ties == "drop"))
        doubled = ~passed & ~(tied & (self.ties == "keep_chosen"))
        origin = np.repeat(np.arange(table.num_rows), 1 + doubled)
        second = np.append(False, origin[1:] == origin[:-1])[: len(origin)]
        rows = exchange(table, origin, second & (self.compat is None))
        rows = _relabel(
            rows,
            _as_json(
                list(self.attributes()), np.where(second[:, None], goals_NA["rejected"][origin], goals_NA["chosen"][origin])
            ),
            ~passed[origin],
            second,
        )
        reasons = REASONS.take(pa.array(np.where(unscored, 0, np.where(unused, 1, 2))[origin]))
        return _with(rows, flags=tables.add_flags(rows, passed[origin], self.name, reasons))

    def _goals(self, measured: pa.Table, state: pa.Table, side: str) -> np.ndarray:
        """(N, attributes) float64 goals, rounded; NaN where there is no score."""
        return np.stack([self._goal(measured[f"{side}.{row['attribute']}"].to_numpy(), row) for row in state.to_pylist()], axis=1)

    def _goal(self, scores: np.ndarray, fitted: dict[str, Any]) -> np.ndarray:
        goals = scores.astype(np.float64)
        if self.scale is not None and fitted["scores"]:
            low, high = self.scale
            goals = low + (high - low) * np.interp(goals, fitted["scores"], fitted["shares"])
            goals[np.isnan(scores)] = np.nan
        return goals if self.round is None else scale.round_half_up(goals, self.round)

    def _other_half(self, table: pa.Table) -> np.ndarray:
        if not self.half:
            return np.zeros(table.num_rows, dtype=bool)
        other: np.ndarray = chance.uniform(chance.hash_texts(table["pair_id"], self.seed)) >= 0.5
        return other


def exchange(table: pa.Table, origin: np.ndarray, swapped: np.ndarray) -> pa.Table:
    """The pairs at row numbers `origin`, all columns but `row`, with the sides exchanged where `swapped`."""
    columns = {name: table[name].take(pa.array(origin)) for name in table.column_names if name != "row" and name not in _sided()}
    rows = {"chosen": origin + table.num_rows * swapped, "rejected": origin + table.num_rows * ~swapped}
    for suffix in SIDES:
        first, second = table["chosen" + suffix], table["rejected" + suffix]
        both = pa.chunked_array(first.chunks + second.chunks, first.type)
        columns |= {side + suffix: both.take(pa.array(at)) for side, at in rows.items()}
    flip = pa.array(swapped)
    columns["margin"] = pc.if_else(flip, pc.negate(columns["margin"]), columns["margin"])
    columns["votes"] = _edit(columns["votes"], swapped, p_chosen=_opposite, p_swapped=_opposite)
    columns["spans"] = _edit(columns["spans"], swapped, side=_other_side)
    return pa.table({name: columns[name] for name in table.column_names if name != "row"})


def _sided() -> set[str]:
    return {side + suffix for side in ("chosen", "rejected") for suffix in SIDES}


def _present(features: pa.Table, name: str) -> np.ndarray:
    values = np.concatenate([features[f"{side}.{name}"].to_numpy() for side in ("chosen", "rejected")])
    present: np.ndarray = values[~np.isnan(values)]
    return present


def _relabel(rows: pa.Table, goals: pa.Array, made: np.ndarray, second: np.ndarray) -> pa.Table:
    """Rows with goal, origin, ids and parent of a relabelled pair where `made`, and as they were elsewhere."""
    where = pa.array(made)
    named = zip(rows["chosen_id"].to_pylist(), rows["rejected_id"].to_pylist(), goals.to_pylist(), strict=True)
    pair_ids = pa.array([ids.pair_id(*sides) for sides in named], pa.string())
    origins = pa.array(["goal_chosen", "goal_rejected"]).take(pa.array(second.astype(np.int8)))
    return _with(
        rows,
        goal=pc.if_else(where, goals, pa.scalar(None, pa.string())),
        origin=pc.if_else(where, origins, rows["origin"]),
        parent_id=pc.if_else(where, rows["pair_id"], rows["parent_id"]),
        pair_id=pc.if_else(where, pair_ids, rows["pair_id"]),
    )


def _with(table: pa.Table, **columns: Any) -> pa.Table:
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _as_json(names: list[str], goals_NA: np.ndarray) -> pa.Array:
    """Each row's goals as a JSON object; whole numbers without a decimal point."""
    parts: list[Any] = []
    for place, name in enumerate(names):
        distinct, which = np.unique(goals_NA[:, place], return_inverse=True)
        key = json.dumps(name, ensure_ascii=False)
        parts += [
            f"{',' if place else '{'}{key}:",
            pa.array([_number(goal) for goal in distinct], pa.string()).take(pa.array(which)),
        ]
    return pc.binary_join_element_wise(*parts, "}", "", null_handling="replace") if len(goals_NA) else pa.array([], pa.string())


def _number(goal: float) -> str:
    shortest = float(str(np.float32(goal)))  # scores are float32: 7.1, not 7.099999904632568
    return json.dumps(int(shortest) if shortest.is_integer() else shortest)


def _edit(column: pa.ChunkedArray, rows: np.ndarray, **edits: Any) -> pa.Array:
    """A list column with fields of its entries edited, in the lists of the rows told."""
    lists = column.combine_chunks()
    entries = lists.flatten()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    where = pa.array(np.repeat(rows, lengths))
    fields = [
        pc.if_else(where, edits[field.name](entries.field(field.name)), entries.field(field.name))
        if field.name in edits
        else entries.field(field.name)
        for field in lists.type.value_type
    ]
    edited = pa.StructArray.from_arrays(fields, fields=list(lists.type.value_type))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, edited, type=lists.type, mask=lists.is_null())


def _opposite(probability: pa.Array) -> pa.Array:
    return pc.subtract(pa.scalar(1, pa.float32()), probability)


def _other_side(side: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(side, "chosen"), "rejected", "chosen")
