"""Split rows into train, validation and test so that no prompt, however worded or relabelled, straddles."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate import ids, tables
from curate.maths import chance, clusters, jaccard, shingles
from curate.operator import DatasetOperator
from curate.tables import Grain

GRAINS: list[Grain] = ["prompts", "responses", "pairs"]
ROW_ID: dict[Grain, str] = {"prompts": "prompt_id", "responses": "response_id", "pairs": "pair_id"}


class Split(DatasetOperator):
    """Write `split`: whole clusters of prompts, each drawn by a hash of the seed and of what the cluster has in common.

    A cluster joins rows with the same prompt, with prompts equal but for case, width, spacing and punctuation, with prompts
    that share most of their runs of three words (`near`: what `near_duplicate` calls repeats; in chains too), rows made from
    one another (`parent_id`), and rows with an equal value in a column of `group`. Shares are shares of clusters, met within
    chance. A cluster keeps its split when rows are added, unless they join it to another. Where a share above 0 would get no
    row, it gets the cluster of lowest draw that no other split needs to stay filled.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[tuple[Grain, ...]] = tuple(grain for grain in GRAINS if "split" in tables.SCHEMAS[grain].names)

    test: float = Field(default=0.0, ge=0, le=1, description="Share of clusters for the test split.")
    validation: float = Field(default=0.0, ge=0, le=1, description="Share of clusters for the validation split.")
    by: Literal["prompt"] = Field(default="prompt", description="What must not straddle two splits.")
    group: list[str] = Field(default=[], description="Columns whose equal values must not straddle either, such as source.")
    near: float | None = Field(
        default=0.7,
        gt=0,
        le=1,
        description="Jaccard similarity of three-word runs from which on two prompts must not straddle; null to allow it.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the draw.")
    replace: bool = Field(default=False, description="Allow overwriting a split that an earlier step wrote.")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.test + self.validation > 1:
            raise ValueError(f"test and validation must leave a share of at least 0, got {self.test} and {self.validation}")
        for column in self.group:
            types = {str(tables.SCHEMAS[g].field(column).type) for g in GRAINS if column in tables.SCHEMAS[g].names}
            if types != {"string"}:
                raise ValueError(f"group takes text columns such as source, domain or license, got {column}")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """What tells prompts and their kin apart."""
        return {"prompt", "prompt_id", "parent_id", ROW_ID[grain], *self.group}

    def writes(self, grain: Grain) -> set[str]:
        """The split alone."""
        return {"split"}

    def feature_parameters(self) -> dict[str, Any]:
        """The group columns, and whether prompts are compared: other shares, seeds and similarities reuse the ids."""
        return {"group": self.group, "near": self.near is not None}

    def features(self, table: pa.Table, /) -> pa.Table:
        """Ids of the row, its prompt, its parent and its prompt's normalised text, the shingles of that text, and the values of
        the group columns."""
        row_id = next(name for name in ("pair_id", "response_id", "prompt_id") if name in table.column_names)
        columns = {
            "prompt_id": table["prompt_id"],
            "row_id": table[row_id],
            "parent_id": table["parent_id"],
            "text_id": text_ids(table),
        }
        if self.near is not None:
            columns["shingles"] = _shingles(table)
        return pa.table(columns | {f"group.{name}": table[name] for name in self.group})

    def decide(self, features: pa.Table, /) -> pa.Table:
        """The split of each row."""
        cluster, draws = self._draw(features)
        number = np.full(len(draws), 2)  # 0 test, 1 validation, 2 train
        number[draws < self.test + self.validation] = 1
        number[draws < self.test] = 0
        for split, share in ((0, self.test), (1, self.validation), (2, 1 - self.test - self.validation)):
            if share > 1e-9 and not (number == split).any():
                _give_one(number, draws, split)
        return pa.table({"split": pa.array(["test", "validation", "train"]).take(pa.array(number[cluster]))})

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The column `split`."""
        return state.select(["split"])

    def _draw(self, features: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """The cluster of each row, numbered from 0, and each cluster's draw in [0, 1)."""
        _, cluster = np.unique(self._clusters(features), return_inverse=True)
        anchors = pc.coalesce(*[features[f"group.{name}"] for name in self.group], features["text_id"])
        # the smallest anchor stands for its cluster, whatever the order of the rows
        first = (
            pa.table({"cluster": cluster, "anchor": anchors})
            .group_by("cluster")
            .aggregate([("anchor", "min")])
            .sort_by("cluster")
        )
        return cluster, chance.uniform(chance.hash_texts(first["anchor_min"], self.seed))

    def _clusters(self, features: pa.Table) -> np.ndarray:
        """For each row the first row it belongs with."""
        kinds = [["row_id", "prompt_id", "parent_id"], ["text_id"], *([f"group.{name}"] for name in self.group)]
        links = [_links(features[name], kind) for kind, names in enumerate(kinds) for name in names]
        rows, keys = (np.concatenate(parts) for parts in zip(*links, strict=True))
        keys = np.unique(keys, return_inverse=True)[1]
        if self.near is not None:
            near = _near(features, self.near)
            more = len(rows) + np.arange(len(near.left))  # keys of their own, one a pair
            rows, keys = np.concatenate([rows, near.left, near.right]), np.concatenate([keys, more, more])
        return clusters.components(rows, keys, features.num_rows)


def _near(features: pa.Table, floor: float) -> jaccard.Edges:
    """Pairs of rows with near prompts, of rows with one prompt the first alone: the others are joined to it."""
    first = np.unique(chance.hash_texts(features["prompt_id"], 0), return_index=True)[1]
    lists = tables.flat(features["shingles"]).take(pa.array(first))
    counts = lists.value_lengths().to_numpy(zero_copy_only=False)
    sets = shingles.Sets(lists.flatten().to_numpy(zero_copy_only=False), shingles.starts_of(counts))
    found = jaccard.Join(sets, floor)
    edges = found.edges()
    if found.crowded:
        edges = found.among(np.ones(len(first), bool))
    return jaccard.Edges(first[edges.left], first[edges.right], edges.likeness)


def _shingles(table: pa.Table) -> pa.Array:
    """The three-word runs of what each row's prompt says, as hashes: those that `near_duplicate` compares."""
    first, which = _distinct_prompts(table)
    prompts = table["prompt"].take(pa.array(first)).combine_chunks()
    said = pa.ListArray.from_arrays(_offsets(prompts), pc.fill_null(prompts.flatten().field("content"), ""))
    sets = shingles.shingle_sets(pc.binary_join(said, "\n\n").to_pylist())
    lists = pa.ListArray.from_arrays(pa.array(sets.starts, pa.int32()), pa.array(sets.hashes, pa.uint32()))
    return lists.take(pa.array(which))


def _distinct_prompts(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each prompt, and the number of each row's prompt among them."""
    codes = table["prompt_id"].combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False)
    _, first, which = np.unique(codes, return_index=True, return_inverse=True)
    return first, which


def _links(column: pa.ChunkedArray, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that have a value, and a number for each value among those of its kind."""
    rows = np.flatnonzero(column.is_valid().to_numpy())
    return rows, chance.hash_texts(column, kind)[rows]


def text_ids(table: pa.Table) -> pa.Array:
    """An id of each row's prompt text that ignores case, width, spacing and punctuation."""
    first, which = _distinct_prompts(table)
    prompts = table["prompt"].take(pa.array(first)).combine_chunks()
    return pa.array([ids.short_id(text) for text in _plain(prompts).to_pylist()], pa.string()).take(pa.array(which))


def _plain(prompts: pa.ListArray) -> pa.Array:
    """Each prompt as one text: role and normalised content of each message."""
    messages = prompts.flatten()
    contents = pc.fill_null(messages.field("content"), "")
    words = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_normalize(contents, "NFKC"), r"[\pP\pZ\s]+", " "))
    words = pc.if_else(pc.equal(words, ""), contents, pc.utf8_lower(words))  # "?!" and "..." are different prompts
    lines = pc.binary_join_element_wise(pc.fill_null(messages.field("role"), ""), words, ":")
    return pc.binary_join(pa.ListArray.from_arrays(_offsets(prompts), lines), "\n")


def _offsets(lists: pa.ListArray) -> pa.Array:
    """Where the entries of each list begin among all entries, and where the last ones end."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())


def _give_one(number: np.ndarray, draws: np.ndarray, split: int) -> None:
    """Move the cluster of lowest draw to `split`, from a split that keeps another one."""
    spare = np.bincount(number, minlength=3)[number] > 1
    if spare.any():
        number[np.flatnonzero(spare)[np.argmin(draws[spare])]] = split
