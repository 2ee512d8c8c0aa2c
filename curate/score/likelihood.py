"""Measure how probable models think each answer is, given its prompt; and the reward that a policy implies over a reference."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curate import tables
from curate.models.asking import LikelihoodRequest
from curate.models.likelihood import Tokens
from curate.models.operator import ModelOperator
from curate.score.judging import ModelKey
from curate.tables import Grain

NO_TEXT = "no text"
CUT_OFF = "truncated: the answer was cut off, so nobody knows how it ends"
TRUNCATED = ("length", "max_tokens")
SIDES: dict[Grain, dict[str, tuple[str, str]]] = {
    "responses": {"scores": ("response", "turns")},
    "pairs": {"chosen_scores": ("chosen", "chosen_turns"), "rejected_scores": ("rejected", "rejected_turns")},
}
"""Per score column: the column of the text and the one of the whole completion."""


TOKENS = pa.list_(pa.struct([("end", pa.int32()), ("logprob", pa.float32())]))
"""Per token of an answer: the character at which it ends, null if the tokenizer does not tell, and its natural logarithm."""


class Measured(NamedTuple):
    """What one model thinks of the answers of one side."""

    sums: np.ndarray
    """(N,) float32, natural logarithms; NaN where there is none."""
    tokens: np.ndarray
    """(N,) float32: tokens of the answer, its ending included."""
    errors: list[str | None]
    each: pa.Array | None
    """Per answer the logarithm of each token and where it ends, where it was asked for: TOKENS."""


class Likelihood(ModelOperator):
    """Scores of each model, its key being the rater: `logprob`, the natural logarithm of the probability of the answer's tokens
    given the prompt, and `mean_logprob`, that per token. Of several turns, the last is measured and all others are given.

    With references, also the reward that a policy trained by DPO implies, with the step as rater: beta (logprob of the model
    - logprob of the reference), under the aspect `dpo`, or `dpo_<reference>` if there are several. Source: Rafailov et al.
    2023, "Direct Preference Optimization", equation 5 without its constant, which a prompt's answers share.

    Null with an error: no text, an answer that was cut off, one too long for the model, or a failed call.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("responses", "pairs")

    model: ModelKey = Field(description="The model that measures; the policy, where there are references.")
    reference: ModelKey | tuple[ModelKey, ...] = Field(default=(), description="Reference models of the implied reward.")
    beta: float = Field(default=0.1, gt=0, description="Factor of the implied reward; DPO's usual one.")
    end: bool = Field(default=True, description="Count the token that ends an answer; then answers that were cut off have none.")
    tokens: bool = Field(
        default=False,
        description="Keep the logarithm of every token, too, with where it ends: files of a column `logprobs.<model>` beside the "
        "others (`chosen_logprobs.<model>` on pairs), which no later step reads; `curate why` tells of them.",
    )

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.panel)) < len(self.panel):
            raise ValueError(f"`model` and `reference` take different ones, got {', '.join(self.panel)}")
        return self

    @property
    def references(self) -> tuple[str, ...]:
        """Keys of the reference models."""
        return (self.reference,) if isinstance(self.reference, str) else self.reference

    @property
    def panel(self) -> tuple[str, ...]:
        """All models' keys, the policy's first."""
        return (self.model, *self.references)

    def models(self) -> set[str]:
        """Policy and references."""
        return set(self.panel)

    def implied(self, reference: str) -> str:
        """The aspect of the reward over a reference."""
        return "dpo" if len(self.references) == 1 else f"dpo_{reference.replace('.', '_')}"

    def reads(self, grain: Grain) -> set[str]:
        """Conversations, and whether they were cut off."""
        names = {"prompt", *(name for names in SIDES[grain].values() for name in names)}
        return names | ({"finish_reason"} if grain == "responses" else set())

    def writes(self, grain: Grain) -> set[str]:
        """Two scores a model and one a reference, on either side of a pair."""
        told = {f"{key}.{aspect}" for key in self.panel for aspect in ("logprob", "mean_logprob")}
        told |= {f"{self.name}.{self.implied(reference)}" for reference in self.references}
        return {f"{column}.{one}" for column in SIDES[grain] for one in told}

    def calls(self, rows: int) -> int:
        """One for each model and row; two where rows are pairs, which is not known here."""
        return rows * len(self.panel)

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The scores, appended to those of the row or of either side."""
        sides = SIDES["pairs" if "chosen" in table.column_names else "responses"]
        asked = {column: self._requests(table, *names) for column, names in sides.items()}
        found: dict[str, list[Measured]] = {column: [] for column in sides}
        for key in self.panel:  # one model after the other: two may not fit into one GPU
            for column, (requests, faults) in asked.items():
                found[column].append(self._measure(key, requests, faults))
        columns = {column: self._appended(table[column], measured) for column, measured in found.items()}
        if self.tokens:
            columns |= {
                f"{column.removesuffix('scores')}logprobs.{key}": one.each
                for column, measured in found.items()
                for key, one in zip(self.panel, measured, strict=True)
            }
        return pa.table(columns)

    def _requests(self, table: pa.Table, text: str, turns: str) -> tuple[list[LikelihoodRequest | None], list[str | None]]:
        """What is asked for each row, or why nothing is."""
        prompts, texts, wholes = (table[name].to_pylist() for name in ("prompt", text, turns))
        ended = self.end and "finish_reason" in table.column_names
        finishes = table["finish_reason"].to_pylist() if ended else [None] * table.num_rows
        requests: list[LikelihoodRequest | None] = []
        faults: list[str | None] = []
        for prompt, answer, whole, finish in zip(prompts, texts, wholes, finishes, strict=True):
            fault = NO_TEXT if answer is None and not whole else CUT_OFF if finish in TRUNCATED else None
            messages = [*(prompt or []), *(whole or [{"role": "assistant", "content": answer}])]
            told = tuple({name: value for name, value in message.items() if value is not None} for message in messages)
            requests.append(None if fault else LikelihoodRequest(told, self.end))
            faults.append(fault)
        return requests, faults

    def _measure(self, key: str, requests: Sequence[LikelihoodRequest | None], faults: Sequence[str | None]) -> Measured:
        rows = [row for row, request in enumerate(requests) if request is not None]
        asked = [request for request in requests if request is not None]
        sums = np.full(len(requests), np.nan, np.float32)
        tokens = np.full(len(requests), np.nan, np.float32)
        errors = list(faults)
        each: pa.Array | None = None
        model: Any = self.called.likelihood(key)
        if self.tokens:
            told: list[Tokens | None] = [None] * len(requests)
            for row, one in zip(rows, model.logprobs(asked), strict=True):
                if isinstance(one, str):
                    errors[row] = one
                else:
                    told[row], sums[row], tokens[row] = one, one.values.sum(dtype=np.float64), len(one.values)
            each = _as_lists(told)
        elif rows:
            totals = model.totals(asked)
            sums[rows], tokens[rows] = totals.sums, totals.tokens
            for row, error in zip(rows, totals.errors, strict=True):
                errors[row] = error
        return Measured(sums, tokens, errors, each)

    def _appended(self, lists: Any, measured: Sequence[Measured]) -> pa.Array:
        for key, one in zip(self.panel, measured, strict=True):
            lists = _append(lists, key, "logprob", one.sums, one.errors)
            lists = _append(lists, key, "mean_logprob", one.sums / one.tokens, one.errors)
        policy = measured[0]
        for key, one in zip(self.references, measured[1:], strict=True):
            implied = self.beta * (policy.sums.astype(np.float64) - one.sums)
            errors = [first or second for first, second in zip(policy.errors, one.errors, strict=True)]
            lists = _append(lists, self.name, self.implied(key), implied, errors)
        return tables.flat(lists)


def _as_lists(told: Sequence[Tokens | None]) -> pa.Array:
    """What is told of each answer's tokens, as TOKENS; null where nothing is."""
    lengths = np.array([0 if one is None else len(one.values) for one in told], np.int32)
    some = [one for one in told if one is not None]
    values = np.concatenate([np.zeros(0, np.float32), *(one.values for one in some)])
    told_ends = [np.full(len(one.values), -1, np.int32) if one.ends is None else one.ends for one in some]
    ends = np.concatenate([np.zeros(0, np.int32), *told_ends])
    structs = pa.StructArray.from_arrays(
        [pa.array(ends, pa.int32(), mask=ends < 0), pa.array(values, pa.float32())], fields=list(TOKENS.value_type)
    )
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, structs, type=TOKENS, mask=pa.array([one is None for one in told], pa.bool_()))


def _append(lists: Any, rater: str, aspect: str, values: np.ndarray, errors: Sequence[str | None]) -> pa.Array:
    fields = {"value": values.astype(np.float32), "error": list(errors)}
    return tables.append(lists, tables.structs(tables.SCORE, len(values), rater=rater, aspect=aspect, **fields))
