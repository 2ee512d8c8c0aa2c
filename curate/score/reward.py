"""Score responses with reward models."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, Self, cast

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curate import tables
from curate.errors import UsageError
from curate.models.numbers import Conversation, Rewards, cut_name
from curate.models.operator import ModelOperator
from curate.operator import RunsOn
from curate.score.judging import ModelKey
from curate.tables import Grain

NO_TEXT = "no text"
MEAN, SPREAD = "", "_spread"
SIDES: dict[Grain, dict[str, tuple[str, str]]] = {
    "responses": {"scores": ("response", "turns")},
    "pairs": {"chosen_scores": ("chosen", "chosen_turns"), "rejected_scores": ("rejected", "rejected_turns")},
}
"""Per score column: the column of the text and the one of the whole completion."""


class Scorer(Protocol):
    """A reward model as a session hands it over."""

    def rewards(self, conversations: Sequence[Conversation]) -> Rewards:
        """Rewards, errors and tokens cut."""

    def heads(self, count: int) -> tuple[str, ...]:
        """Names of its outputs."""


class Scored(NamedTuple):
    """One model's rewards of the rows of one side."""

    heads: tuple[str, ...]
    values: np.ndarray
    """(N, heads) float32; NaN where there is none."""
    errors: list[str | None]
    cut: np.ndarray
    """(N,) float32; NaN if not told."""


class Reward(ModelOperator):
    """Raw rewards of responses, on pairs of both sides: the rater is the model's key in the recipe, the aspect its output's
    name (`reward` if it has one output).

    Several models are raters each, and together one more, named as the step: the mean of their rewards under the same aspect
    and their spread (standard deviation) under `<aspect>_spread`, both in the models' own unit, null where any of them has
    none. Evidence `<model>_cut`: tokens of the conversation the model did not read because it takes no more, on pairs of both
    sides together. Null with an error: no text, too long where the model's `truncate` is `never`, or a failed call.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("responses", "pairs")

    model: ModelKey | tuple[ModelKey, ...] = Field(description="The reward model, or several: an ensemble.")
    drop_cut: bool = Field(default=False, description="Drop rows of which some model did not read all.")

    @model_validator(mode="after")
    def _different(self) -> Self:
        if not self.panel or len(set(self.panel)) < len(self.panel):
            raise ValueError(f"`model` takes one or several different ones, got {', '.join(self.panel) or 'none'}")
        return self

    @property
    def panel(self) -> tuple[str, ...]:
        """The models' keys."""
        return (self.model,) if isinstance(self.model, str) else self.model

    @property
    def runs_on(self) -> RunsOn:
        """Servers are waited for; a model of this process lets one shard in at a time."""
        return "wait"

    def models(self) -> set[str]:
        """Those of the ensemble."""
        return set(self.panel)

    def reads(self, grain: Grain) -> set[str]:
        """Conversation and answers."""
        return {"prompt", *(name for names in SIDES[grain].values() for name in names)}

    def writes(self, grain: Grain) -> set[str]:
        """Scores by every model and, of several, by the step; what was cut; and the flags if rows are dropped."""
        raters = [*self.panel, *([self.name] if len(self.panel) > 1 else [])]
        scores = {f"{column}.{rater}.*" for column in SIDES[grain] for rater in raters}
        return scores | {f"evidence.{self.name}.{cut_name(key)}" for key in self.panel} | ({"flags"} if self.drop_cut else set())

    def calls(self, rows: int) -> int:
        """One for each model and row; two where rows are pairs, which is not known here."""
        return rows * len(self.panel)

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The scores, appended to those of the row or of either side."""
        sides = SIDES["pairs" if "chosen" in table.column_names else "responses"]
        prompts = table["prompt"].to_pylist()
        found: dict[str, list[Scored]] = {}
        for column, (text, turns) in sides.items():
            conversations = list(_conversations(prompts, table[text].to_pylist(), table[turns].to_pylist()))
            found[column] = [self._score(key, conversations) for key in self.panel]
        columns = {column: self._appended(table[column], scored) for column, scored in found.items()}
        cut_MN = np.array([sum(found[column][place].cut for column in sides) for place in range(len(self.panel))])
        columns["evidence"] = self._evidence(table, cut_MN)
        if self.drop_cut:
            most = np.fmax.reduce(cut_MN, axis=0)
            columns["flags"] = tables.add_flags(table, most > 0, self.name, "cut", most)
        return pa.table(columns)

    def _score(self, key: str, conversations: Sequence[Conversation | None]) -> Scored:
        model = cast(Scorer, self.called.reward(key))
        rows = [row for row, conversation in enumerate(conversations) if conversation is not None]
        made = model.rewards([conversation for conversation in conversations if conversation is not None])
        heads = model.heads(made.values.shape[1]) if rows else ()
        values = np.full((len(conversations), len(heads)), np.nan, np.float32)
        cut = np.full(len(conversations), np.nan, np.float32)
        errors: list[str | None] = [NO_TEXT] * len(conversations)
        values[rows], cut[rows] = made.values if rows else values[rows], made.cut
        for row, error in zip(rows, made.errors, strict=True):
            errors[row] = error
        return Scored(
            heads or model.heads(1), values if heads else np.full((len(conversations), 1), np.nan, np.float32), errors, cut
        )

    def _appended(self, lists: Any, scored: Sequence[Scored]) -> pa.Array:
        for key, one in zip(self.panel, scored, strict=True):
            for place, head in enumerate(one.heads):
                lists = _append(lists, key, head, one.values[:, place], one.errors)
        if len(self.panel) > 1:
            for head in self._common(scored):
                values_MN = np.array([one.values[:, one.heads.index(head)] for one in scored], np.float64)
                errors = _first_errors(self.panel, scored)
                lists = _append(lists, self.name, head + MEAN, values_MN.mean(axis=0), errors)
                lists = _append(lists, self.name, head + SPREAD, values_MN.std(axis=0), errors)
        return lists

    def _common(self, scored: Sequence[Scored]) -> list[str]:
        """Outputs that all models have; UsageError if there are none though all of them gave rewards."""
        found = [head for head in scored[0].heads if all(head in one.heads for one in scored)]
        if not found and all(np.isfinite(one.values).any() for one in scored):
            told = "; ".join(f"{key}: {', '.join(one.heads)}" for key, one in zip(self.panel, scored, strict=True))
            raise UsageError(f"{self.name}: models without an output in common have no mean ({told}); name them by options.heads")
        return found

    def _evidence(self, table: pa.Table, cut_MN: np.ndarray) -> pa.Array:
        for key, cut in zip(self.panel, cut_MN, strict=True):
            entries = tables.add_evidence(table, cut.astype(np.float32), self.name, cut_name(key))
            table = table.set_column(table.schema.get_field_index("evidence"), "evidence", entries)
        return tables.flat(table["evidence"])


def _append(lists: Any, rater: str, aspect: str, values: np.ndarray, errors: Sequence[str | None]) -> pa.Array:
    fields = {"value": values.astype(np.float32), "error": list(errors)}
    return tables.append(lists, tables.structs(tables.SCORE, len(values), rater=rater, aspect=aspect, **fields))


def _first_errors(panel: Sequence[str], scored: Sequence[Scored]) -> list[str | None]:
    """Why the models have no mean, row by row: the first of their errors, with whose it is behind it."""
    told = [[None if e is None else f"{e} ({key})" for e in one.errors] for key, one in zip(panel, scored, strict=True)]
    return [next((error for error in row if error is not None), None) for row in zip(*told, strict=True)]


def _conversations(
    prompts: Sequence[Any], texts: Sequence[str | None], turns: Sequence[Any]
) -> Iterator[list[dict[str, Any]] | None]:
    """Each row's conversation with its answer; None where there is no answer."""
    for prompt, text, whole in zip(prompts, texts, turns, strict=True):
        answer = whole if whole else None if text is None else [{"role": "assistant", "content": text}]
        yield None if answer is None else [without_nulls(message) for message in [*(prompt or []), *answer]]


def without_nulls(message: dict[str, Any]) -> dict[str, Any]:
    """A stored message without what it does not have."""
    return {name: value for name, value in message.items() if value is not None}
