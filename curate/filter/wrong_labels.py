"""What filters that look for wrong labels share: the features of a pair, and the groups that folds keep whole."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate import tables
from curate.errors import StepError
from curate.maths import chance
from curate.maths.noise_frame import Comparisons, comparisons
from curate.maths.peer_review import Settings
from curate.maths.series import one_series, series_field
from curate.models.numbers import cut_name
from curate.models.operator import PairEmbeddings
from curate.tables import Grain

OF_TEXT = ("length", "typicality")
SIDES = ("chosen", "rejected")


class WrongLabels(PairEmbeddings):
    """A filter of pairs that learns from all of them which labels do not fit."""

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)

    use: list[str] = Field(
        default=["length", "typicality"],
        description="Further numbers of each side: length (log of characters), typicality (cosine to the mean of the prompt's "
        "responses; used where there is a model), or raters as rater or rater:aspect.",
    )
    noise: Literal["auto"] | float = Field(
        default="auto", description="Share of wrong labels, in [0, 0.5); auto: estimated, with an interval."
    )
    strength: float | None = Field(
        default=None, gt=0, description="Strength of the prior on a head's weights; chosen on held-out noisy labels if not given."
    )
    folds: int = Field(default=5, ge=2, le=50, description="Folds of cross-fitting; no prompt and no response is in two.")
    related: Literal["together", "apart"] = Field(
        default="together",
        description="together: a pair is also judged by the labels of other pairs of its prompt and responses, never its own; "
        "apart: by other prompts alone; better where labels come from ratings of single responses: their pairs share the errors.",
    )
    threshold: float = Field(
        default=0.5, ge=0, le=1, description="Pairs whose label is wrong with a larger probability are dropped."
    )
    seed: int = Field(default=0, ge=0, description="Seed of folds and draws.")

    @model_validator(mode="after")
    def _has_features(self) -> Self:
        if not isinstance(self.noise, str) and not 0 <= self.noise < 0.5:
            raise ValueError(f"noise: auto, or a share from 0 to below 0.5, got {self.noise}")
        if not self._scalars() and self.model is None:
            raise ValueError("a model, or at least one entry of use besides typicality, is needed")
        if len(set(self.use)) < len(self.use):
            raise ValueError("use: each name once")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """Texts, ids and the raters named."""
        raters = {series_field(name, f"{side}_scores") for name in self.use if name not in OF_TEXT for side in SIDES}
        return {"prompt_id", "chosen", "rejected", "chosen_id", "rejected_id"} | raters

    def feature_parameters(self) -> dict[str, Any]:
        """The model and the names of the features: another noise or threshold reuses the vectors."""
        return {"model": self.model, "use": self._scalars()}

    def features(self, table: pa.Table, /) -> pa.Table:
        """x: chosen minus rejected of each feature, vectors first; numbers for prompt and responses; with a model cut: tokens of
        both sides that it did not read, null where that is not told.
        """
        parts = [self._scalar(table, name) for name in self._scalars() if name != "typicality"]
        cut = {}
        if self.model is not None:
            (chosen, chosen_cut), (rejected, rejected_cut) = (self._vectors(table[side]) for side in SIDES)
            vectors, cut_N = (chosen, rejected), chosen_cut + rejected_cut
            cut = {"cut": pa.array(cut_N, mask=np.isnan(cut_N))}
            if "typicality" in self.use:
                parts.append(_typicality(table["prompt_id"], *vectors))
            difference = np.column_stack([vectors[0] - vectors[1], *parts]).astype(np.float32)
        else:
            difference = np.column_stack(parts).astype(np.float32)
        width = difference.shape[1]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(difference.ravel(), pa.float32()), max(width, 1))
        return pa.table({"x": lists} | numbers_of(table) | cut)

    def _scalars(self) -> list[str]:
        return [name for name in self.use if name != "typicality" or self.model is not None]

    def _scalar(self, table: pa.Table, name: str) -> np.ndarray:
        if name == "length":
            lengths = [np.log1p(pc.utf8_length(table[side]).to_numpy().astype(np.float64)) for side in SIDES]
            return np.asarray(lengths[0] - lengths[1])
        gap = [one_series(table, name, f"{side}_scores") for side in SIDES]
        return np.asarray(gap[0] - gap[1])

    def cut_names(self) -> list[str]:
        """The evidence of what the embedding model did not read, if there is one."""
        return [] if self.model is None else [cut_name(self.model)]

    def cut_columns(self, features: pa.Table) -> dict[str, pa.ChunkedArray]:
        """That evidence."""
        return {name: features["cut"] for name in self.cut_names()}

    def _vectors(self, texts: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """(N, D), and tokens cut off, (N,); the same text is asked for once. A missing text has no numbers."""
        distinct = pc.fill_null(texts, "").combine_chunks().dictionary_encode() if len(texts) else None
        if distinct is None:
            return np.zeros((0, 1), dtype=np.float32), np.zeros(0, dtype=np.float32)
        made = self.called.embed(str(self.model)).vectors(distinct.dictionary.to_pylist())
        of_N = distinct.indices.to_numpy(zero_copy_only=False)
        found = np.asarray(made.values, dtype=np.float32)[of_N]
        found[pc.is_null(texts).to_numpy()] = np.nan
        return found, np.asarray(made.cut, dtype=np.float32)[of_N]

    def comparable(self, features: pa.Table) -> tuple[np.ndarray, Comparisons | None]:
        """Which rows have all their numbers, (N,) bool, and those rows as comparisons; None of an empty table."""
        if not features.num_rows:
            return np.zeros(0, dtype=bool), None
        column = features["x"]
        lists = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        width = lists.type.list_size
        x_ND = lists.values.slice(lists.offset * width, len(lists) * width).to_numpy().reshape(-1, width)  # no copy
        usable = np.isfinite(x_ND.sum(axis=1, dtype=np.float64))  # of sums: a number of every row, not of every feature
        if not usable.any():
            raise StepError("no pair has all the numbers asked for in `use`: score both sides first, or name others")
        single = len(self._scalars())
        vector = x_ND.shape[1] - single
        blocks = ([vector] if vector else []) + [1] * single
        prompt, chosen, rejected = (features[name].to_numpy()[usable] for name in ("prompt", *SIDES))
        return usable, comparisons(x_ND if usable.all() else x_ND[usable], prompt, chosen, rejected, blocks)

    def settings(self) -> Settings:
        """The parameters as the mathematics takes them."""
        given = None if isinstance(self.noise, str) else self.noise
        return Settings(noise=given, strength=self.strength, folds=self.folds, related=self.related, seed=self.seed)


def numbers_of(table: pa.Table) -> dict[str, pa.Array]:
    """A number for the prompt and for either response of each pair, equal where they are the same."""
    sides = {side: pa.array(chance.hash_texts(_response(table, side), 0)) for side in SIDES}
    return {"prompt": pa.array(chance.hash_texts(table["prompt_id"], 0))} | sides


def _response(table: pa.Table, side: str) -> pa.Array:
    """What tells responses apart: their ids, their texts where they have none."""
    return tables.flat(pc.coalesce(table[f"{side}_id"], table[side]))


def _typicality(prompts: pa.ChunkedArray, chosen_ND: np.ndarray, rejected_ND: np.ndarray) -> np.ndarray:
    """Cosine of the chosen side to the mean vector of its prompt's responses, minus that of the rejected side, (N,).

    The mean is over the sides of all pairs, each as often as it occurs: exchanging sides changes nothing.
    """
    which = tables.flat(prompts).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    count = int(which.max(initial=-1)) + 1
    means = np.zeros((count, chosen_ND.shape[1]), dtype=np.float32)
    for side in (chosen_ND, rejected_ND):
        np.add.at(means, which, np.nan_to_num(side))
    mean = means[which]
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    return np.asarray(((chosen_ND - rejected_ND) * mean).sum(axis=1))


def spread(values: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Values of the usable rows at their places among all, NaN elsewhere, float32."""
    out = np.full(len(usable), np.nan, dtype=np.float32)
    out[usable] = values
    return out
