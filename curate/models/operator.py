"""Operators that call models."""

from typing import Self

from pydantic import Field, PrivateAttr

from curate.models.asking import Models
from curate.operator import DatasetOperator, Operator, RunsOn, ShardOperator


class CallsModels(Operator):
    """An operator that calls models; the runner hands them over before the first shard."""

    _models: Models | None = PrivateAttr(default=None)

    def with_models(self, models: Models) -> Self:
        """A copy that can call the recipe's models."""
        ready = self.model_copy()
        ready._models = models
        return ready

    @property
    def runs_on(self) -> RunsOn:
        """It waits: many shards may be in flight, in this process alone."""
        return "wait"

    @property
    def called(self) -> Models:
        """The models handed over."""
        if self._models is None:
            raise RuntimeError(f"{type(self).__name__} was given no models; call with_models first")
        return self._models

    def calls(self, rows: int) -> int:
        """Model calls to expect for so many rows: what `curate plan` shows."""
        return rows


class ModelOperator(CallsModels, ShardOperator):
    """A shard operator that calls models.

    A row whose call failed carries null and `error`; `retryable` counts those that another run may mend.
    """


class ModelDatasetOperator(CallsModels, DatasetOperator):
    """A dataset operator that calls models, as a rule in `features` alone."""


class PairEmbeddings(ModelDatasetOperator):
    """A dataset operator of pairs that may embed both responses: without a model it goes by numbers alone."""

    model: str | None = Field(default=None, description="Embedding model of the two responses; none: `use` alone.")

    def models(self) -> set[str]:
        """The embedding model, if one is told."""
        return set() if self.model is None else {self.model}

    @property
    def runs_on(self) -> RunsOn:
        """It waits for the model, if there is one."""
        return "thread" if self.model is None else "wait"

    def calls(self, rows: int) -> int:
        """Texts to embed."""
        return 0 if self.model is None else 2 * rows
