"""What all filters of repeats have in common: who is compared, which row of a cluster stays, and what is written.

A search finds all pairs at or above a floor, once; the threshold then only chooses among them. So moving it searches nothing,
and where rows were added, only they are searched for.
"""

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate import tables
from curate.filter.texts import (
    DEFAULT_TEXT,
    ROW_ID,
    Text,
    Within,
    characters_of,
    columns_of,
    grain_of,
    scope_columns,
    scopes_of,
    texts_of,
)
from curate.maths import clusters
from curate.maths.jaccard import Edges
from curate.operator import DatasetOperator
from curate.tables import Grain

SEARCH, TEXT = b"search", b"text"
LINKS = {"left": pa.int64(), "right": pa.int64(), "likeness": pa.float32()}
CUT_ONLY = ("name", "threshold", "linkage", "keep", "by")
"""Parameters that choose among the pairs found, and do not change what is found."""
EarlierVersion = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}@v[0-9]+$")]


class Search(NamedTuple):
    """What a search found, by row numbers."""

    edges: Edges
    """Pairs at or above the floor; of rows that are one and the same, the first one's alone."""
    about: dict[str, Any]
    """How it was made: plain JSON, kept with the edges; `recall` is the estimated share of pairs found."""
    homes: np.ndarray | None = None
    """(N,) int32: what places rows so that later ones are searched for alone; see `maths.neighbours.Found`."""
    crowd: np.ndarray | None = None
    """(N,) bool: rows alike to so many that pairs with rows before them were left out; None if there are none."""

    def to_tables(self) -> list[pa.Table]:
        """As the store keeps it."""
        columns = zip(LINKS, self.edges, strict=True)
        table = pa.table({name: pa.array(values, LINKS[name]) for name, values in columns})
        table = table.replace_schema_metadata({SEARCH: json.dumps(self.about, sort_keys=True).encode()})
        rows = {"home": (self.homes, pa.int32()), "crowd": (self.crowd, pa.bool_())}
        told = {name: pa.array(values, kind) for name, (values, kind) in rows.items() if values is not None}
        return [table, pa.table(told)] if told else [table]

    @staticmethod
    def of(tables: Sequence[pa.Table]) -> "Search":
        """The inverse of to_tables."""
        links, *more = tables
        edges = Edges(*(links[name].to_numpy() for name in LINKS))
        told = {name: column.to_numpy() for rows in more for name, column in zip(rows.column_names, rows.columns, strict=True)}
        about = json.loads((links.schema.metadata or {}).get(SEARCH, b"{}"))
        return Search(edges, about, told.get("home"), told.get("crowd"))


class Repeats(DatasetOperator):
    """Drop all but one row of each cluster of rows that are alike, and every row that is alike to one of an earlier version.

    Evidence for every row that has the text: `similarity`, the greatest to a row that is preferred to it (null where none
    reaches the floor), and `cluster`, the rows of its cluster. A dropped row's flag names the kept row and their similarity.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[tuple[Grain, ...]] = ("prompts", "responses", "pairs")
    reason: ClassVar[str]
    usual_floor: ClassVar[float]
    """The floor if none is given."""
    usual_threshold: ClassVar[float]
    """The threshold if none is given."""

    threshold: float | None
    floor: float | None
    column: Text | None = Field(
        default=None, description="Text compared; pair: chosen and rejected together. Default by grain: prompt, response, pair."
    )
    within: Within | None = Field(
        default=None,
        description="Compare rows of one prompt, of one source, or all rows. Default: prompt; all where the text is the prompt.",
    )
    keep: Literal["first", "longest", "best", "votes"] = Field(
        default="first",
        description="Which row of a cluster stays: the earliest, the one of most characters, scored highest, or of most votes.",
    )
    by: str | None = Field(
        default=None, description="keep: best: the rater (or rater:aspect) that ranks; for pairs its gap, chosen minus rejected."
    )
    linkage: Literal["complete", "single"] = Field(
        default="complete",
        description="complete: a dropped row is alike to the kept one itself; single: through a chain of others, which is told.",
    )

    against: EarlierVersion | list[EarlierVersion] = Field(
        default=[], description="Earlier versions, such as name@v3: their kept rows are compared with, too, and always stay."
    )

    @model_validator(mode="after")
    def _check_by(self) -> Self:
        if (self.keep == "best") != (self.by is not None):
            raise ValueError("`by` names the rater for `keep: best`; give both or neither")
        return self

    @model_validator(mode="after")
    def _check_floor(self) -> Self:
        lowest = self.threshold or self.usual_threshold
        if self.floor is not None and self.floor > lowest:
            raise ValueError(f"the floor must not lie above the threshold, got {self.floor:g} and {lowest:g}")
        return self

    @property
    def searched_to(self) -> float:
        """Pairs at or above it are found and kept, so that the threshold can be moved."""
        return self.floor or min(self.usual_floor, self.threshold or self.usual_threshold)

    def threshold_of(self, text: Text) -> float:
        """Similarity from which on rows are repeats by such a text."""
        return self.threshold or self.usual_threshold

    @abstractmethod
    def contents(self, texts: list[str | None]) -> dict[str, pa.Array]:
        """The feature columns that say what a text is like; `digest`, (N,) uint64: equal where texts are one and the same."""

    @abstractmethod
    def search(self, features: pa.Table, known: Search | None, rows: int) -> Search:
        """All pairs at or above the floor. known: those among the first `rows` rows, found before; None if none were."""

    def same(self, features: pa.Table) -> np.ndarray:
        """The first row that is one and the same as each, in its scope, (N,) int64."""
        return clusters.first_equal(*(features[name].to_numpy() for name in ("digest", "scope", "has")))

    def measured(self) -> dict[str, str]:
        """Feature columns of float32 that are told of every row, and the names of the evidence."""
        return {}

    def settle(self, features: pa.Table, search: Search, chosen: np.ndarray, place: np.ndarray, earlier: int) -> Edges:
        """Pairs that the search left out among the chosen rows, (N,) bool; none if it left out none on purpose.

        place: (N,) of each row in the order of preference. Pairs among the first `earlier` rows are none of its business. Not
        all pairs need be told at once, but some if there are any at or above the threshold: it is asked again.
        """
        return Edges.none()

    # -- what the runner calls

    def reads(self, grain: Grain) -> set[str]:
        """The compared text, what tells scopes apart, and what ranks."""
        text = self._text(grain)
        fields = {ROW_ID[grain], *columns_of(text), *scope_columns(text, self._within(text))}
        if self.keep == "votes":
            fields.add("votes")
        if self.by is not None:
            rater, aspect = tables.split_rater(self.by)
            fields |= {f"{column}.{rater}.{aspect or '*'}" for column in _score_columns(grain)}
        return fields

    def writes(self, grain: Grain) -> set[str]:
        """The measures and the flags."""
        return {f"evidence.{self.name}.{name}" for name in ("similarity", "cluster", *self.measured().values())} | {"flags"}

    def versions(self) -> list[str]:
        """The earlier versions compared with."""
        return [self.against] if isinstance(self.against, str) else list(self.against)

    def feature_parameters(self) -> dict[str, Any]:
        """Neither the name nor what chooses among the pairs, nor other rows, but what ranks rows."""
        unused = ("name", "threshold", "linkage", "floor", "against")
        return {field: value for field, value in self.parameters().items() if field not in unused}

    def search_parameters(self) -> dict[str, Any]:
        """What the pairs found depend on: they are kept and reused while these stay the same."""
        unused = (*CUT_ONLY, "floor", "against")
        kept = {field: value for field, value in self.parameters().items() if field not in unused}
        return kept | {"floor": self.searched_to}

    def features(self, table: pa.Table, /) -> pa.Table:
        """id; rank: the highest stays; scope: rows of one are compared; has: whether there is a text; and what it is like."""
        grain = grain_of(table)
        text = self._text(grain)
        texts = texts_of(table, text)
        columns = {
            "id": tables.flat(table[ROW_ID[grain]]),
            "rank": pa.array(self._rank(table, grain, texts), pa.float32()),
            "scope": pa.array(scopes_of(table, text, self._within(text)), pa.int64()),
            "has": pa.array([one is not None for one in texts], pa.bool_()),
        }
        return pa.table(columns | self.contents(texts)).replace_schema_metadata({TEXT: text.encode()})

    def decide(self, features: pa.Table, /) -> pa.Table:
        """See `choose`; the search is made anew."""
        return self.choose(features, self.search(features, None, 0))

    def choose(self, features: pa.Table, search: Search, earlier: int = 0) -> pa.Table:
        """Per row: id of the kept row and likeness to it (null for a kept row), similarity, rows of the cluster, path.

        earlier: so many first rows are those of earlier versions. They stay before any other, and nothing is told of them.
        """
        same = self.same(features)
        place = clusters.in_order(features["rank"].to_numpy(), earlier)
        best = np.full(len(same), len(same), np.int64)
        np.minimum.at(best, same, place)  # the place of the most preferred of rows that are one and the same
        order = np.where(same == np.arange(len(same)), best, len(same) + place)
        threshold = self.threshold_of(compared_text(features))
        search, found = self._clusters(features, search, order, threshold, earlier)
        state = self._state(features, search, found, same, best, place)
        for column, name in self.measured().items():
            state = state.append_column(name, features[column])
        return state.slice(earlier)

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The measures as evidence, and a flag with the id of the kept row on the others; a path is a flag of its own."""
        evidence = table
        for name in ("similarity", "cluster", *self.measured().values()):
            entries = tables.add_evidence(evidence, state[name].to_numpy(), self.name, name)
            evidence = table.set_column(table.schema.get_field_index("evidence"), "evidence", entries)
        dropped = pc.is_valid(state["kept"]).to_numpy()
        flags = tables.add_flags(table, dropped, self.name, self.reason, state["likeness"].to_numpy(), state["kept"])
        chained = pc.is_valid(state["path"]).to_numpy()
        if chained.any():
            told = table.set_column(table.schema.get_field_index("flags"), "flags", flags)
            flags = tables.add_flags(told, chained, self.name, "path", state["likeness"].to_numpy(), state["path"])
        return pa.table({"evidence": tables.flat(evidence["evidence"]), "flags": flags})

    # -- inside

    def _clusters(
        self, features: pa.Table, search: Search, order: np.ndarray, threshold: float, earlier: int
    ) -> tuple[Search, clusters.Clusters]:
        """Clusters at the threshold; pairs left out of the search are looked for until no two kept rows are alike."""
        place = clusters.in_order(-order.astype(np.float64))
        edges = search.edges
        if self.linkage == "single":
            edges = Edges.joined([edges, self.settle(features, search, np.ones(len(order), bool), place, earlier)])
            return search._replace(edges=edges), clusters.single(edges.above(threshold), place)
        while True:
            found = clusters.complete(edges.above(threshold), place)
            more = self.settle(features, search, found.kept == np.arange(len(order)), place, earlier)
            if not (more.likeness >= np.float32(threshold)).any():
                return search._replace(edges=edges), found
            edges = Edges.joined([edges, more])

    def _state(
        self,
        features: pa.Table,
        search: Search,
        found: clusters.Clusters,
        same: np.ndarray,
        best: np.ndarray,
        place: np.ndarray,
    ) -> pa.Table:
        """What is told of every row, from the clusters of those that differ."""
        count = len(same)
        at = np.empty(count, np.int64)
        at[place] = np.arange(count)
        stands = at[best[same]]  # the row that stands for all that are one and the same
        kept = stands[found.kept[same]]
        likeness = np.where(found.kept[same] == same, np.float32(1), found.likeness[same])
        nearest = self._nearest(search, same, stands, best)
        dropped, has = kept != np.arange(count), features["has"].to_numpy()
        sizes = np.bincount(kept, minlength=count)[kept].astype(np.float32)
        ids = tables.flat(features["id"])
        return pa.table(
            {
                "kept": ids.take(pa.array(kept, mask=~dropped)),
                "likeness": pa.array(likeness, pa.float32(), mask=~dropped),
                "similarity": pa.array(np.where(has, nearest, np.nan), pa.float32(), mask=np.isnan(nearest) | ~has),
                "cluster": pa.array(sizes, pa.float32(), mask=~has),
                "path": pa.array(self._paths(found, same, stands, dropped, ids), pa.string()),
            }
        )

    def _nearest(self, search: Search, same: np.ndarray, stands: np.ndarray, best: np.ndarray) -> np.ndarray:
        """The greatest similarity of each row to one preferred to it, (N,) float32."""
        differ = clusters.nearest_better(search.edges, clusters.in_order(-best[same].astype(np.float64)))
        return np.where(stands == np.arange(len(same)), differ[same], np.float32(1))

    def _paths(
        self, found: clusters.Clusters, same: np.ndarray, stands: np.ndarray, dropped: np.ndarray, ids: pa.Array
    ) -> list[str | None]:
        """Ids from a row to its kept one where others lie between, for single linkage."""
        paths: list[str | None] = [None] * len(same)
        if found.before is None:
            return paths
        for row in np.flatnonzero(dropped).tolist():
            rows = [row, *(int(stands[step]) for step in found.path(int(same[row])) if int(stands[step]) != row)]
            if len(rows) > 2:
                paths[row] = " > ".join(ids[step].as_py() for step in rows)
        return paths

    def _text(self, grain: Grain) -> Text:
        return self.column or DEFAULT_TEXT[grain]

    def _within(self, text: Text) -> Within:
        return self.within or ("all" if text == "prompt" else "prompt")

    def _rank(self, table: pa.Table, grain: Grain, texts: list[str | None]) -> np.ndarray:
        """The highest stays, (N,) float32; NaN loses to any."""
        if self.keep == "longest":
            return characters_of(texts)
        if self.keep == "votes":
            told = pc.is_valid(pc.struct_field(tables.flat(table["votes"]).flatten(), "p_chosen")).to_numpy(zero_copy_only=False)
            of = pc.list_parent_indices(tables.flat(table["votes"])).to_numpy(zero_copy_only=False)
            return np.bincount(of[told], minlength=table.num_rows).astype(np.float32)
        if self.keep == "best":
            rater, aspect = tables.split_rater(str(self.by))
            first, *second = (tables.score_of(table, rater, aspect, column) for column in _score_columns(grain))
            return first - second[0] if second else first
        return np.zeros(table.num_rows, np.float32)


def compared_text(features: pa.Table) -> Text:
    """The text that features are of."""
    return cast(Text, (features.schema.metadata or {})[TEXT].decode())


def _score_columns(grain: Grain) -> tuple[str, ...]:
    return ("chosen_scores", "rejected_scores") if grain == "pairs" else ("scores",)
