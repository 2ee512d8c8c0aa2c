"""Drop rows whose text means what another row's does, by embeddings."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.filter.repeats import Repeats, Search
from curate.maths.jaccard import Edges
from curate.maths.neighbours import EXACT_BELOW, PROBES, near_within
from curate.models.numbers import cut_name
from curate.models.operator import ModelDatasetOperator

TYPES = {"float16": np.float16, "float32": np.float32}


class SemanticDuplicate(Repeats, ModelDatasetOperator):
    """Drop all but one row of each cluster of texts that mean the same.

    Similarity is the cosine of the texts' embeddings. Up to `exact_below` rows every pair is compared; beyond, rows are compared
    in the nearest cells, every pair found is verified, and the recall is estimated against an exact search for some of the
    rows. With a `hashing` model the comparison is lexical: of words and spelling, not of meaning. Answers to one prompt lie near
    each other for their subject alone, also where they differ in what they say: look at what was dropped before relying on a
    threshold there.
    """

    reason: ClassVar[str] = "semantic_duplicate"
    usual_floor: ClassVar[float] = 0.85

    model: str = Field(min_length=1, description="The embedding model, by its key under `models`.")
    threshold: float = Field(default=0.9, gt=0, le=1, description="Cosine from which on two rows are repeats.")
    floor: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Cosine down to which pairs are found and kept, so that the threshold can be moved above it without "
        "another search. Default: 0.85, or a lower threshold.",
    )
    exact_below: int = Field(default=EXACT_BELOW, ge=0, description="Rows up to which every pair is compared.")
    probes: int = Field(default=PROBES, ge=1, le=256, description="Cells a row is compared in: more find more and take longer.")
    storage: Literal["float16", "float32"] = Field(default="float16", description="How vectors are kept between searches.")
    seed: int = Field(default=0, ge=0, description="Seed of the cells and of the rows that recall is estimated on.")

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
        vectors, has = self._vectors(features)
        same = self.same(features)
        first = np.flatnonzero((same == np.arange(len(same))) & has)
        before = int(np.searchsorted(first, rows)) if known else 0
        some = vectors if len(first) == len(vectors) else vectors[first]
        homes = _among(first, known.homes[first[:before]]) if known and known.homes is not None else None
        options = {"exact_below": self.exact_below, "probes": self.probes, "seed": self.seed}
        found = near_within(some, features["scope"].to_numpy()[first], self.searched_to, before, homes=homes, **options)
        edges = Edges(first[found.edges.left], first[found.edges.right], found.edges.likeness)
        about = {
            "likeness": getattr(self.called.embed(self.model), "likeness", "semantic"),
            "how": found.how,
            "recall": None if np.isnan(found.recall) else round(found.recall, 4),
            "checked": found.checked,
            "searched": len(first) - before,
            "among": len(first),
        }
        placed = None if found.homes is None else _placed(first, found.homes, len(same))
        return Search(Edges.joined([edges, *([known.edges] if known else [])]), about, placed)

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
