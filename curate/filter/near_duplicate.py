"""Drop rows whose text is nearly that of another row, by the words they share."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.filter.repeats import Repeats, Search
from curate.maths.jaccard import Edges, Join, set_digests
from curate.maths.shingles import Sets, shingle_sets, starts_of
from curate.operator import RunsOn

SIZES = {"word": 3, "character": 5}


class NearDuplicate(Repeats):
    """Drop all but one row of each cluster of nearly equal texts.

    Similarity is the Jaccard similarity of the texts' shingles: runs of `size` words (or characters) that both hold, as a share
    of those either holds. The search is exact: every pair at or above the floor is found, and each is verified. Case, spacing
    and, for words, punctuation never count; for code, where they do, take `shingle: character`.
    """

    reason: ClassVar[str] = "near_duplicate"
    version: ClassVar[int] = 3
    usual_floor: ClassVar[float] = 0.6
    usual_threshold: ClassVar[float] = 0.7

    threshold: float = Field(default=usual_threshold, gt=0, le=1, description="Similarity from which on two rows are repeats.")
    floor: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Similarity down to which pairs are found and kept, so that the threshold can be moved above it without "
        "another search. Default: 0.6, or a lower threshold.",
    )
    shingle: Literal["word", "character"] = Field(default="word", description="What texts are cut into.")
    size: int | None = Field(default=None, ge=1, le=64, description="Words or characters of a shingle. Default: 3, or 5.")

    @property
    def runs_on(self) -> RunsOn:
        """Columns of numbers."""
        return "thread"

    def contents(self, texts: list[str | None]) -> dict[str, pa.Array]:
        """digest: what equal sets of shingles have in common; shingles: hashes of the text's runs, ascending."""
        sets = shingle_sets(texts, self.shingle, self.size or SIZES[self.shingle])
        lists = pa.ListArray.from_arrays(pa.array(sets.starts, pa.int32()), pa.array(sets.hashes, pa.uint32()))
        return {"digest": pa.array(set_digests(sets)), "shingles": lists}

    def search(self, features: pa.Table, known: Search | None, rows: int) -> Search:
        """All pairs at or above the floor of texts that differ."""
        join, first = self._join(features, rows if known else 0)
        found = join.edges()
        found = Edges(first[found.left], first[found.right], found.likeness)
        crowded = join.crowded or bool(known and known.about.get("crowded"))
        edges = Edges.joined([found, *([known.edges] if known else [])])
        return Search(edges, {"how": "exact", "recall": 1.0, "crowded": crowded})

    def settle(self, features: pa.Table, search: Search, chosen: np.ndarray, place: np.ndarray, earlier: int) -> Edges:
        """Pairs of a crowd that were not compared at first."""
        if not search.about.get("crowded"):
            return Edges.none()
        join, first = self._join(features, earlier)
        more = join.among(chosen[first])
        return Edges(first[more.left], first[more.right], more.likeness)

    def _join(self, features: pa.Table, known: int) -> tuple[Join, np.ndarray]:
        """A search among texts that differ, and their rows."""
        sets, same = _sets(features), self.same(features)
        first = np.flatnonzero(same == np.arange(len(same)))
        sets = sets if len(first) == len(same) else sets.only(first)
        return Join(sets, self.searched_to, features["scope"].to_numpy()[first], int(np.searchsorted(first, known))), first


def _sets(features: pa.Table) -> Sets:
    """The shingles of all rows."""
    chunks = features["shingles"].chunks
    hashes = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
    counts = [chunk.value_lengths().to_numpy(zero_copy_only=False) for chunk in chunks]
    if not chunks:
        return Sets(np.zeros(0, np.uint32), np.zeros(1, np.int64))
    return Sets(np.concatenate(hashes), starts_of(np.concatenate(counts)))
