"""Weigh several preference sets so that training on all of them helps each."""

from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate import tables
from curate.errors import StepError
from curate.maths import chance
from curate.maths.min_norm import balance, pair_weights, preference_ece
from curate.maths.series import one_series, series_field
from curate.models.operator import PairEmbeddings
from curate.tables import Grain

SIDES = ("chosen", "rejected")
MEASURES = ("share", "margin", "ece", "ece_even")
FOLDS = 2  # each half is judged by a head trained on the other


class WeightSets(PairEmbeddings):
    """`weight` of a pair by the preference set it is from: sets whose gradients disagree with the others' get less.

    A linear reward head on what tells the sides apart is trained on all sets at once; the weights of their mean losses are
    those of the shortest combination of their gradients. A set counts as a whole, however many pairs it has: the weight of a
    pair is share x all pairs / pairs of its set, 1 on average. Evidence: share (of the pair's set), margin (log odds that the
    label is right, by a head that saw no pair of the prompt), and of all pairs ece, the expected calibration error of these
    margins, and ece_even, that of a head for which every pair counts the same. A pair without a set or a number has no weight.

    Source: MORE, Zeng et al. 2023, arXiv:2312.07401; see curate/maths/min_norm.py.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)

    sets: Literal["source", "domain", "license"] = Field(default="source", description="Column that tells sets apart.")
    use: tuple[str, ...] = Field(default=(), description="Numbers of each side: raters as rater or rater:aspect.")
    steps: int = Field(default=600, ge=1, le=100_000, description="Steps of training; each takes a batch of every set.")
    batch: int = Field(default=512, ge=1, description="Pairs of a set in a step.")
    momentum: float = Field(default=0.99, ge=0, lt=1, description="How slowly the weights follow the gradients.")
    seed: int = Field(default=0, ge=0, description="Seed of batches and halves.")
    replace: bool = Field(default=False, description="Allow overwriting the weight of an earlier step.")

    @model_validator(mode="after")
    def _has_features(self) -> Self:
        if self.model is None and not self.use:
            raise ValueError("a model, or at least one entry of use, is needed")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """The set, texts and raters."""
        raters = {series_field(by, f"{side}_scores") for by in self.use for side in SIDES}
        return {self.sets, "prompt_id"} | raters | (set() if self.model is None else set(SIDES))

    def writes(self, grain: Grain) -> set[str]:
        """The weight and the measures."""
        return {"weight"} | {f"evidence.{self.name}.{measure}" for measure in MEASURES}

    def feature_parameters(self) -> dict[str, Any]:
        """What tells the sides apart, and the set."""
        return {"model": self.model, "use": self.use, "sets": self.sets}

    def features(self, table: pa.Table, /) -> pa.Table:
        """x: chosen minus rejected; the set; a number for the prompt."""
        parts = [
            np.subtract(*(one_series(table, by, f"{side}_scores") for side in SIDES)).astype(np.float32)[:, None]
            for by in self.use
        ]
        if self.model is not None:
            parts.append(np.subtract(*(self._vectors(table[side]) for side in SIDES)))
        width = sum(part.shape[1] for part in parts)
        rows = np.concatenate(parts, axis=1).ravel().astype(np.float32)
        return pa.table(
            {
                "x": pa.FixedSizeListArray.from_arrays(pa.array(rows), max(width, 1)),
                "set": tables.flat(table[self.sets]),
                "prompt": pa.array(chance.hash_texts(table["prompt_id"], self.seed)),
            }
        )

    def _vectors(self, texts: pa.ChunkedArray) -> np.ndarray:
        """(N, D); the same text is asked for once; NaN for a missing one."""
        coded = tables.flat(texts).dictionary_encode()
        if not len(coded.dictionary):
            return np.full((len(texts), 1), np.nan, np.float32)
        vectors = np.asarray(self.called.embed(str(self.model)).encode(coded.dictionary.to_pylist()), np.float32)
        found: np.ndarray = vectors[pc.fill_null(coded.indices, 0).to_numpy(zero_copy_only=False)]
        found[coded.is_null().to_numpy(zero_copy_only=False)] = np.nan
        return found

    def decide(self, features: pa.Table, /) -> pa.Table:
        """Weight and measures, one row a pair."""
        count = features.num_rows
        if not count:
            return pa.table({name: pa.array([], pa.float32()) for name in ("weight", *MEASURES)})
        x_ND = tables.flat(features["x"]).flatten().to_numpy(zero_copy_only=False).reshape(count, -1)
        usable = np.isfinite(x_ND).all(axis=1) & tables.flat(features["set"]).is_valid().to_numpy(zero_copy_only=False)
        coded = tables.flat(features["set"]).filter(pa.array(usable)).dictionary_encode()
        if len(coded.dictionary) < 2:
            raise StepError(
                f"{self.name} weighs sets against each other, but the pairs with all numbers are of {len(coded.dictionary)} by "
                f"`{self.sets}`: name another column under `sets`, or leave the step out"
            )
        which = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        found = self._judged(x_ND[usable], which, features["prompt"].to_numpy()[usable])
        columns = {}
        for name, values in found.items():
            column = np.full(count, np.nan, np.float32)
            column[usable] = values
            columns[name] = pa.array(column, mask=np.isnan(column))
        return pa.table(columns)

    def _judged(self, x_ND: np.ndarray, which: np.ndarray, prompt: np.ndarray) -> dict[str, np.ndarray | float]:
        """The weight from all pairs; margins by heads that saw none of the prompt."""
        train = partial(balance, steps=self.steps, batch=self.batch, momentum=self.momentum, seed=self.seed)
        shares = train(x_ND, which).shares_K
        half = prompt % np.uint64(FOLDS)
        margins = {even: np.full(len(which), np.nan) for even in (False, True)}
        for even, margin in margins.items():
            for fold in range(FOLDS):
                seen = half != fold
                if seen.any():
                    _, numbers = np.unique(which[seen], return_inverse=True)
                    head = train(x_ND[seen], numbers, even=even).head_D
                    margin[~seen] = x_ND[~seen] @ head
        return {
            "weight": pair_weights(shares, which),
            "share": shares[which],
            "margin": margins[False],
            "ece": preference_ece(margins[False]),
            "ece_even": preference_ece(margins[True]),
        }

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The weight, and the measures as evidence."""
        evidence = table["evidence"]
        for name in MEASURES:
            entries = tables.structs(tables.EVIDENCE, table.num_rows, by=self.name, name=name, value=state[name])
            evidence = tables.append(evidence, entries)
        return pa.table({"weight": state["weight"], "evidence": evidence})
