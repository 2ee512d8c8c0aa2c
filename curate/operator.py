"""What an operator is: frozen parameters with a call from table to table.

A ShardOperator needs only the rows of one prompt; a DatasetOperator needs every row, but never every column at once.
The runner hands an operator the unflagged rows alone and carries the flagged ones past it.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from curate import tables
from curate.ids import canonical_json
from curate.tables import Grain

RunsOn = Literal["thread", "process", "wait"]


class Made(NamedTuple):
    """What an operator that changes the grain returns."""

    rows: pa.Table
    """The new rows, all columns of the new grain but `row`."""
    flags: pa.Array
    """The `flags` column of the rows it was given: a new flag on each row that made nothing, saying why."""


class Cut(NamedTuple):
    """How a filter drops rows: those whose stored measure is on the wrong side of a threshold."""

    measure: str
    """Name of the evidence the filter wrote (its `by` is the step's name)."""
    keep: Literal[">=", ">", "<=", "<"]
    threshold: float
    field: str
    """The parameter that holds the threshold."""


class Operator(BaseModel, ABC):
    """Parameters of a step. Its fields are what a recipe may write; unknown ones are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    takes: ClassVar[tuple[Grain, ...]]
    """Grains it accepts."""
    makes: ClassVar[Grain | None] = None
    """Grain of the rows it makes; None if it only adds columns to the rows it was given."""
    version: ClassVar[int] = 1
    """Raised whenever the same parameters would now give other rows."""

    @property
    def runs_on(self) -> RunsOn:
        """Where it runs best: threads for work on columns, processes where Python is busy, waiting where models are asked."""
        return "thread"

    name: str = Field(
        default="", description="Name of the step in flags, evidence and reports; the operator's name if not given."
    )

    @abstractmethod
    def reads(self, grain: Grain) -> set[str]:
        """What must be there: columns ("margin"), or scores and votes as "scores.rater.aspect" with * for any."""

    @abstractmethod
    def writes(self, grain: Grain) -> set[str]:
        """What will be there afterwards, in the same form. A maker lists what is new besides the columns it carries."""

    def refuses(self, grain: Grain) -> str | None:
        """Why its parameters do not fit rows of a grain that it takes otherwise; None if they do."""
        return None

    def cut(self) -> Cut | None:
        """The threshold that `show --rethreshold` may move without recomputing; None if there is none."""
        return None

    def models(self) -> set[str]:
        """Names of the recipe's models that this step uses."""
        return set()

    def files(self) -> set[str]:
        """Paths of files that this step reads; their contents are part of the step's key."""
        return set()

    def versions(self) -> list[str]:
        """Earlier versions that this step reads, such as name@v3; their contents are part of the step's key."""
        return []

    def columns(self, grain: Grain) -> list[str]:
        """The columns to load: what is read, what is appended to, and nothing else. Makers load all."""
        names: list[str] = tables.SCHEMAS[grain].names
        if self.makes is not None:
            return names
        wanted = {field.split(".", 1)[0] for field in self.reads(grain) | self.writes(grain)}
        return [name for name in names if name in wanted]

    def parameters(self) -> dict[str, Any]:
        """Everything that can change the rows, as plain JSON: part of the step's key."""
        return self.model_dump(mode="json")

    def __str__(self) -> str:
        return f"{type(self).__name__} {canonical_json(self.parameters())}"


class ShardOperator(Operator):
    """An operator to which the rows of one prompt suffice; shards never split a prompt."""

    @abstractmethod
    def __call__(self, table: pa.Table, /) -> pa.Table | Made:
        """Rows kept: only the columns it adds or replaces, aligned with the input.

        Rows made: a whole table of grain `makes` where that equals the input's grain (a row that made nothing is
        passed on with a flag), else a `Made`.
        """


class DatasetOperator(Operator):
    """An operator that must see every row: measure in shards, decide once, apply in shards."""

    aligned: ClassVar[bool] = True
    """Whether `decide` returns one row per feature row, in order; if not, a small fitted table seen whole by `apply`."""

    @abstractmethod
    def features(self, table: pa.Table, /) -> pa.Table:
        """The light columns that the decision needs, one row per input row."""

    @abstractmethod
    def decide(self, features: pa.Table, /) -> pa.Table:
        """One row per feature row in order (aligned), or a small fitted table."""

    @abstractmethod
    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The columns it adds or replaces, from the rows and their part of the state (or the whole fitted table)."""

    def feature_parameters(self) -> dict[str, Any]:
        """The parameters `features` depends on: features are kept and reused while these stay the same."""
        return self.parameters()

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """All three passes over one table in memory."""
        return self.apply(table, self.decide(self.features(table)))
