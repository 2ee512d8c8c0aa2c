"""Drop rows whose text means what another row's does, by embeddings."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.filter.repeats import Repeats, Search, compared_text
from curate.filter.texts import Text
from curate.maths.cells import between
from curate.maths.crowds import FEW_OF_ROW, HELD, HELD_OF_ROW, Held, Spanning
from curate.maths.jaccard import Edges
from curate.maths.neighbours import EXACT_BELOW, PROBES, near_within
from curate.models.numbers import cut_name
from curate.models.operator import ModelDatasetOperator

ASKED_EXACTLY = 1000
"""Kept rows of crowds up to which each is compared with all kept ones."""
COMPARED = 1 << 27
"""Pairs of rows of crowds and kept ones that are compared in a round: seconds."""
TYPES = {"float16": np.float16, "float32": np.float32}


class SemanticDuplicate(Repeats, ModelDatasetOperator):
    """Drop all but one row of each cluster of texts that mean the same.

    Similarity is the cosine of the texts' embeddings. Up to `exact_below` rows every pair is compared; beyond, rows are compared
    that share a cell, every pair found is verified, and the recall is estimated against an exact search for some of the
    rows. With a `hashing` model the comparison is lexical: of words and spelling, not of meaning.

    Prompts of a set are about different things, and two that lie at a cosine of 0.9 ask nearly always the same. Answers to one
    prompt lie near each other for their subject alone: at 0.9 as many say something else as say the same. So answers are
    repeats from 0.95 on unless another threshold is told: what is dropped in error is an answer less to choose from. Lower it
    where samples of one model repeat themselves in other words, and look at what was dropped: every cosine down to the floor
    is kept, so a threshold is moved without another search. Of a row alike to hundreds of others, so many are kept.
    """

    version: ClassVar[int] = 3
    reason: ClassVar[str] = "semantic_duplicate"
    usual_floor: ClassVar[float] = 0.85
    usual_threshold: ClassVar[float] = 0.9
    usual_of_answers: ClassVar[float] = 0.95
    of_row: ClassVar[int] = HELD_OF_ROW
    """Pairs found of a row at first: of a crowd more are looked for where they tell which rows stay."""

    model: str = Field(min_length=1, description="The embedding model, by its key under `models`.")
    threshold: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Cosine from which on two rows are repeats. Default: 0.9 of prompts; 0.95 of answers, which are about the "
        "same subject anyhow.",
    )
    floor: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Cosine down to which pairs are found and kept, so that the threshold can be moved above it without "
        "another search. Default: 0.85, or a lower threshold.",
    )
    exact_below: int = Field(default=EXACT_BELOW, ge=0, description="Rows up to which every pair is compared.")
    probes: int = Field(default=PROBES, ge=1, le=256, description="Cells a row is a member of: more find more and take longer.")
    storage: Literal["float16", "float32"] = Field(default="float16", description="How vectors are kept between searches.")
    seed: int = Field(default=0, ge=0, description="Seed of the cells and of the rows that recall is estimated on.")

    def threshold_of(self, text: Text) -> float:
        """The cosine from which on rows are repeats by such a text."""
        return self.threshold or (self.usual_threshold if text == "prompt" else self.usual_of_answers)

    def models(self) -> set[str]:
        """The embedding model."""
        return {self.model}

    def contents(self, texts: list[str | None]) -> dict[str, pa.Array]:
        """vector: the embedding's numbers as bytes, null where there is no text; digest: what equal ones have in common; cut:
        tokens of the text that the embedding leaves out, null where that is not told.
        """
        import xxhash

        rows = [row for row, text in enumerate(texts) if text is not None]
        vectors: list[bytes | None] = [None] * len(texts)
        digests = np.zeros(len(texts), np.uint64)
        cut = np.full(len(texts), np.nan, np.float32)
        if rows:
            made, cut[rows] = self.called.embed(self.model).vectors([str(texts[row]) for row in rows])
            for row, vector in zip(rows, made.astype(TYPES[self.storage]), strict=True):
                vectors[row] = raw = vector.tobytes()
                digests[row] = xxhash.xxh3_64_intdigest(raw)
        told = pa.array(cut, mask=np.isnan(cut))
        return {"digest": pa.array(digests), "vector": pa.array(vectors, pa.binary()), "cut": told}

    def measured(self) -> dict[str, str]:
        """What the model cut off."""
        return {"cut": cut_name(self.model)}

    def search(self, features: pa.Table, known: Search | None, rows: int) -> Search:
        """Pairs at or above the floor of vectors that differ."""
        vectors, first = self._distinct(features)
        count = features.num_rows
        before = int(np.searchsorted(first, rows)) if known else 0
        some = vectors if len(first) == len(vectors) else vectors[first]
        homes = _among(first, known.homes[first[:before]]) if known and known.homes is not None else None
        scopes, options = features["scope"].to_numpy()[first], self._options()
        found = near_within(some, scopes, self.searched_to, before, homes=homes, held=Held(len(first), self.of_row), **options)
        edges = Edges(first[found.edges.left], first[found.edges.right], found.edges.likeness)
        about = {
            "likeness": getattr(self.called.embed(self.model), "likeness", "semantic"),
            "how": found.how,
            "recall": None if np.isnan(found.recall) else round(found.recall, 4),
            "checked": found.checked,
            "searched": len(first) - before,
            "among": len(first),
        }
        placed = None if found.homes is None else _placed(first, found.homes, count)
        crowd = np.zeros(count, bool)
        crowd[first] = found.crowd
        if known and known.crowd is not None:
            crowd[:rows] |= known.crowd
        return Search(Edges.joined([edges, *([known.edges] if known else [])]), about, placed, crowd if crowd.any() else None)

    def settle(self, features: pa.Table, search: Search, chosen: np.ndarray, place: np.ndarray, earlier: int) -> Edges:
        """Pairs of chosen rows of crowds with any chosen row, and if there are any, of all rows of crowds with such rows.

        The latter so that a row finds another one to join where the one it joined is dropped. For single linkage, the pairs that
        connect any rows of crowds.
        """
        if search.crowd is None or not (search.crowd & chosen).any():
            return Edges.none()
        vectors, first = self._distinct(features)
        scopes, threshold = features["scope"].to_numpy(), self.threshold_of(compared_text(features))
        ordered = first[np.argsort(place[first], kind="stable")]
        some = ordered[chosen[ordered]]
        asked = search.crowd[some]
        rows, count = np.concatenate([some[~asked], some[asked]]), int(asked.sum())
        held = Spanning(len(rows)) if self.linkage == "single" else Held(len(rows), max(self.of_row, HELD // count))
        options = {**self._options(), "sample": 0, "few": ASKED_EXACTLY}
        found = near_within(vectors[rows], scopes[rows], threshold, len(rows) - count, homes=None, held=held, **options)
        among = Edges.of(rows[found.edges.left], rows[found.edges.right], found.edges.likeness)
        if self.linkage == "single" or not len(among.left):
            return among
        linked = np.zeros(len(chosen), bool)
        linked[search.edges.left[search.crowd[search.edges.right]]] = True
        leaders = some[(linked | search.crowd)[some]]
        rest = ordered[search.crowd[ordered] & ~chosen[ordered]]
        return Edges.joined([among, self._joining(vectors, scopes, leaders, rest, threshold)])

    def _joining(self, vectors: np.ndarray, scopes: np.ndarray, leaders: np.ndarray, rest: np.ndarray, threshold: float) -> Edges:
        """Pairs of the most preferred leaders of a scope, as many as there is time for, with its others: a few of each."""
        held = Held(len(scopes), FEW_OF_ROW)
        for scope in np.unique(scopes[rest]).tolist():
            others = rest[scopes[rest] == scope]
            some = leaders[scopes[leaders] == scope][: max(COMPARED // len(others), 1)]
            between(vectors, some, others, threshold, held)
        return held.edges()

    def _options(self) -> dict[str, int]:
        return {"exact_below": self.exact_below, "probes": self.probes, "seed": self.seed}

    def _distinct(self, features: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """The vectors of all rows, and the first row of each that differs and has one."""
        vectors, has = self._vectors(features)
        same = self.same(features)
        return vectors, np.flatnonzero((same == np.arange(len(same))) & has)

    def _vectors(self, features: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """The vectors, (N, D), zeros where there is none, and which rows have one, (N,) bool."""
        has = features["has"].to_numpy()
        kind = TYPES[self.storage]
        parts = [_bytes_of(chunk) for chunk in features["vector"].chunks if chunk.null_count < len(chunk)]
        joined = np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else np.zeros(0, np.uint8)
        there = joined.view(kind).reshape(int(has.sum()), -1) if has.any() else np.zeros((0, 1), kind)
        if has.all():
            return there, has
        vectors = np.zeros((len(has), there.shape[1]), kind)
        vectors[has] = there
        return vectors, has


def _bytes_of(chunk: pa.BinaryArray) -> np.ndarray:
    """The bytes of all values of an array, (B,) uint8, not copied."""
    offsets = np.frombuffer(chunk.buffers()[1], np.int32)
    return np.frombuffer(chunk.buffers()[2], np.uint8)[offsets[chunk.offset] : offsets[chunk.offset + len(chunk)]]


def _among(first: np.ndarray, homes: np.ndarray) -> np.ndarray:
    """The homes, row numbers of all rows, as places among `first`; -1 where there is none."""
    return np.where(homes < 0, -1, np.searchsorted(first, homes))


def _placed(first: np.ndarray, homes: np.ndarray, count: int) -> np.ndarray:
    """The inverse of `_among`: for each of `count` rows, -1 where it is not among `first`."""
    placed = np.full(count, -1, np.int32)
    placed[first] = np.where(homes < 0, -1, first[homes])
    return placed
