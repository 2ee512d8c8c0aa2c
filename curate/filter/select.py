"""Select rows: the best by score, some of each difficulty, or those that are unlike each other."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, FiniteFloat, model_validator

from curate import tables
from curate.filter.balance import gap, score_columns
from curate.filter.texts import DEFAULT_TEXT, ROW_ID, Text, columns_of, grain_of, texts_of
from curate.maths import chance, selection
from curate.maths.series import series_field
from curate.models.numbers import cut_name
from curate.models.operator import ModelDatasetOperator
from curate.operator import Cut
from curate.tables import Grain

How = Literal["top", "bands", "farthest", "facility"]
NUMBERS = ("margin", "label_prob", "weight", "difficulty")
"""Columns of pairs that rows may be selected by, besides series of scores."""
COVERED = 4096  # rows that facility location stands for at most: beyond, a sample drawn by their ids


class Select(ModelDatasetOperator):
    """Keep some rows and drop the others; the flag says which choice they lost to.

    top: the highest by a score. bands: rows in ranges of a score, so many of each. farthest: each row the farthest from those
    chosen before it. facility: rows that stand for all others. Writes `place` as evidence: from 1 in the order of choice (in
    its band, or within its prompt); null for rows that were never chosen or have no score. With a model also `<model>_cut`:
    tokens of the text that it did not read because it takes no more; null if it does not tell.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("prompts", "responses", "pairs")

    how: How
    by: str | None = Field(
        default=None,
        description="top and bands: a series, rater or rater:aspect (of pairs its gap, chosen minus rejected), or the column "
        f"{', '.join(NUMBERS)}.",
    )
    share: float | None = Field(default=None, gt=0, le=1, description="Part of the rows to keep, rounded down.")
    count: int | None = Field(default=None, ge=1, description="Rows to keep, instead of a share.")
    within: Literal["prompt", "all"] = Field(default="all", description="Choose among the rows of one prompt, or all rows.")
    bands: tuple[tuple[FiniteFloat, FiniteFloat] | tuple[FiniteFloat, FiniteFloat, int], ...] = Field(
        default=(), description="bands: [low, high] or [low, high, rows to keep]; low belongs to the band, high to the next."
    )
    model: str | None = Field(default=None, description="farthest and facility: an embedding model, by its key under `models`.")
    column: Text | None = Field(default=None, description="With model: the text embedded; prompt, response or pair if not given.")
    scores: tuple[str, ...] = Field(
        default=(), description="farthest and facility: series that place the rows, instead of a model."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the draw within bands, of the first row, and of the sample covered.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        by_score = self.how in ("top", "bands")
        if by_score != (self.by is not None):
            raise ValueError(
                f"`by` names the score for top and bands, got how: {self.how} {'without' if by_score else 'with'} it"
            )
        if (self.how == "bands") != bool(self.bands):
            raise ValueError("`bands` goes with how: bands; give both or neither")
        if (self.share is None) + (self.count is None) != (2 if self.how == "bands" else 1):
            raise ValueError("give share or count; bands say themselves how many")
        if by_score and (self.model or self.scores or self.column):
            raise ValueError("model, column and scores are for how: farthest and how: facility")
        if not by_score and (self.model is None) == (not self.scores):
            raise ValueError(f"how: {self.how} needs a model or scores, and not both")
        if self.column is not None and self.model is None:
            raise ValueError("`column` is the text that `model` embeds; give both or neither")
        if self.how == "bands" and self.within == "prompt":
            raise ValueError("bands are chosen among all rows")
        if any(band[0] >= band[1] for band in self.bands) or any(
            a[1] > b[0] for a, b in zip(self.bands, self.bands[1:], strict=False)
        ):
            raise ValueError("bands must ascend and must not overlap")
        return self

    def models(self) -> set[str]:
        """The embedding model."""
        return set() if self.model is None else {self.model}

    def calls(self, rows: int) -> int:
        """A text a row, with a model."""
        return 0 if self.model is None else rows

    def reads(self, grain: Grain) -> set[str]:
        """The score or text, and the ids that rows are drawn and grouped by."""
        fields = {ROW_ID[grain], "prompt_id"}
        for by in (*self.scores, *([self.by] if self.by else [])):
            fields |= {by} if by in NUMBERS else {series_field(by, column) for column in score_columns(grain)}
        return fields | (columns_of(self._text(grain)) if self.model else set())

    def writes(self, grain: Grain) -> set[str]:
        """The place, what the model did not read, and the flags."""
        cut = {f"evidence.{self.name}.{cut_name(self.model)}"} if self.model else set()
        return {f"evidence.{self.name}.place", "flags"} | cut

    def cut(self) -> Cut | None:
        """The last place of the best, where their number is told."""
        return Cut("place", "<=", self.count, "count") if self.how == "top" and self.count is not None else None

    def feature_parameters(self) -> dict[str, Any]:
        """What rows are placed by; not how many are kept."""
        return {name: self.parameters()[name] for name in ("by", "model", "column", "scores", "seed")}

    def features(self, table: pa.Table, /) -> pa.Table:
        """prompt, draw in [0, 1), value (NaN for none) and, for choices by likeness, vector; null where there is none."""
        grain = grain_of(table)
        draw = chance.uniform(chance.hash_texts(table[ROW_ID[grain]], self.seed))
        columns = {"prompt": tables.flat(table["prompt_id"]), "draw": pa.array(draw, pa.float64())}
        if self.by is not None:
            columns["value"] = pa.array(self._numbers(table, self.by, grain).astype(np.float64), pa.float64())
        elif self.model is not None:
            columns |= self._embedded(texts_of(table, self._text(grain)))
        else:
            placed = np.stack([self._numbers(table, by, grain) for by in self.scores], axis=1).astype(np.float32)
            has = np.logical_or.reduce(np.isfinite(placed), axis=1)
            columns["vector"] = _lists(placed, has)
        return pa.table(columns)

    def decide(self, features: pa.Table, /) -> pa.Table:
        """The place at which a row was chosen, from 1, null if it was not; and why it is dropped."""
        if self.how == "bands":
            place, dropped, reasons = self._by_band(features["value"].to_numpy(), features["draw"].to_numpy())
        else:
            place, has = (self._by_rank if self.how == "top" else self._by_likeness)(features)
            dropped = (place < 1) | (place > self._kept(features, has))
            lost = {"top": "below_top", "farthest": "near_to_chosen", "facility": "covered_by_chosen"}[self.how]
            reasons = np.where(has, lost, "no_score" if self.model is None else "no_text").astype(object)
        told = pa.array(reasons, pa.string(), mask=~dropped)
        decided = {"place": pa.array(place, pa.int64(), mask=place < 1), "reason": told}
        return pa.table(decided | ({"cut": features["cut"]} if self.model else {}))

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The place and what was not read as evidence, and a flag on what was not chosen."""
        place = state["place"].cast(pa.float32()).to_numpy()
        flags = tables.add_flags(table, pc.is_valid(state["reason"]).to_numpy(), self.name, state["reason"], place)
        evidence = tables.add_evidence(table, place, self.name, "place")
        if self.model:
            seen = table.set_column(table.schema.get_field_index("evidence"), "evidence", evidence)
            evidence = tables.add_evidence(seen, state["cut"].to_numpy(), self.name, cut_name(self.model))
        return pa.table({"evidence": evidence, "flags": flags})

    def _text(self, grain: Grain) -> Text:
        return self.column or DEFAULT_TEXT[grain]

    def _numbers(self, table: pa.Table, by: str, grain: Grain) -> np.ndarray:
        if by not in NUMBERS:
            return gap(table, by, grain)
        values: np.ndarray = table[by].to_numpy()
        return values

    def _embedded(self, texts: list[str | None]) -> dict[str, pa.Array]:
        """vector: the embedding; cut: tokens of the text that it leaves out; both null where there is no text."""
        has = np.array([text is not None for text in texts], dtype=bool)
        some = [text for text in texts if text is not None]
        made = self.called.embed(str(self.model)).vectors(some)
        vectors = np.zeros((len(texts), max(made.values.shape[1], 1)), dtype=np.float32)
        cut = np.full(len(texts), np.nan, np.float32)
        if some:
            vectors[has], cut[has] = made
        return {"vector": _lists(vectors, has), "cut": pa.array(cut, mask=np.isnan(cut))}

    def _groups(self, features: pa.Table) -> np.ndarray:
        if self.within == "all":
            return np.zeros(features.num_rows, dtype=np.int64)
        return selection.numbered(features["prompt"].to_pylist())[0]

    def _kept(self, features: pa.Table, has: np.ndarray) -> np.ndarray:
        """How many of its group are kept, for each row, (N,) int64."""
        groups = self._groups(features)
        rows = np.bincount(groups, weights=has, minlength=1).astype(np.int64)
        if self.count is not None:
            return np.full(len(groups), self.count, dtype=np.int64)
        kept = np.array([selection.rows_of_share(float(self.share or 0), int(n)) for n in rows], dtype=np.int64)
        shares: np.ndarray = kept[groups]
        return shares

    def _by_rank(self, features: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Every row's place by its score, the highest first, 0 where there is none; and which rows have one."""
        values = features["value"].to_numpy()
        has = np.isfinite(values)
        place = selection.places(self._groups(features), np.where(has, -values, np.inf)) + 1
        return np.where(has, place, 0), has

    def _by_band(self, values: np.ndarray, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Place in the band, 0 outside; what is dropped; and the reason it would be dropped for."""
        band = np.full(len(values), -1, dtype=np.int64)
        for number, (low, high, *_) in enumerate(self.bands):
            last = number == len(self.bands) - 1  # the last one is closed: 1.0 belongs to [0.5, 1.0]
            band[(values >= low) & ((values <= high) if last else (values < high))] = number
        place = np.where(band >= 0, selection.places(band, draw) + 1, 0)
        most = np.array([*(one[2] if len(one) > 2 else len(values) for one in self.bands), 0], dtype=np.int64)
        names = [*(f"band_{one[0]:g}_{one[1]:g}" for one in self.bands), "outside_bands"]
        reasons = np.where(np.isnan(values), "no_score", np.array(names, dtype=object)[band]).astype(object)
        return place, (band < 0) | (place > most[band]), reasons

    def _by_likeness(self, features: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """The place at which each row was chosen, 0 if it was not; and which rows can be."""
        has = pc.is_valid(features["vector"]).to_numpy()
        vectors = np.zeros((len(has), 1))
        if has.any():
            stacked = np.stack(features["vector"].drop_null().to_numpy())
            vectors = np.zeros((len(has), stacked.shape[1]), dtype=stacked.dtype)
            vectors[has] = stacked
        if self.scores:
            vectors = selection.standardised(vectors)
        kept, groups, draw = self._kept(features, has), self._groups(features), features["draw"].to_numpy()
        place = np.zeros(len(has), dtype=np.int64)
        rows = np.flatnonzero(has)
        order = rows[np.argsort(groups[rows], kind="stable")]
        for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else []:
            chosen = members[self._choose(vectors[members], draw[members], int(kept[members[0]]))]
            place[chosen] = np.arange(1, len(chosen) + 1)
        return place, has

    def _choose(self, vectors: np.ndarray, draw: np.ndarray, count: int) -> np.ndarray:
        if self.how == "farthest":
            return selection.farthest_first(vectors, count, int(draw.argmin()))
        sample = np.sort(np.argsort(draw, kind="stable")[:COVERED])
        return selection.facility_location(vectors, count, None if len(sample) == len(vectors) else vectors[sample])


def _lists(vectors_ND: np.ndarray, has: np.ndarray) -> pa.Array:
    """Vectors as a list column; null where there is none."""
    n, width = vectors_ND.shape
    offsets = np.arange(n + 1, dtype=np.int32) * width
    values = pa.array(vectors_ND.astype(np.float32).ravel())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~has))
