"""What a version says of the models that made its numbers: which they are, how they compare, and what they did not read."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.models.numbers import cut_name
from curate.publish.figures import files_of
from curate.store.store import Store

if TYPE_CHECKING:
    from curate.publish.version import Stage

TELL_CUT = ("reward", "select", "semantic_duplicate", "peer_review", "label_em")
"""Operators that write as evidence what their models did not read."""
WHERE = {"fake": "fake", **dict.fromkeys(("transformers", "sentence_transformers", "hashing"), "in the run's process")}
LEXICAL = "compares words and spelling, not meaning"


class Used(NamedTuple):
    """A model that a step asked."""

    step: str
    key: str
    """Its name in the recipe."""
    name: str
    revision: str | None
    backend: str | None
    """Where it is one that computes on the machine of the run, or a fake; else it may have been any server."""
    lexical: bool
    """Whether it compares words and spelling."""
    cut: "Cut | None"
    """What it did not read; None if it did not tell."""


class Cut(NamedTuple):
    """Rows of which a model did not read all, because it takes no more."""

    rows: int
    """Rows for which it told."""
    affected: int
    tokens: int
    """Most tokens of one row that were cut off."""

    def __str__(self) -> str:
        if not self.affected:
            return f"none of {self.rows:,} rows"
        return f"{self.affected:,} of {self.rows:,} rows, at most {self.tokens:,} tokens each"


def used_rows(folder: Path, manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """The models as cells of text, by column; no column for what none of them tells. Empty for a version without models."""
    used = models_used(folder, manifest)
    rows = [
        {
            "step": one.step,
            "model": one.key,
            "name": one.name,
            "revision": one.revision or "",
            "where": WHERE.get(one.backend or "", ""),
            "remark": f"lexical: it {LEXICAL}" if one.lexical else "",
            "not read in full": str(one.cut) if one.cut else "",
        }
        for one in used
    ]
    told = [column for column in (rows[0] if rows else ()) if any(row[column] for row in rows)]
    return [{column: row[column] for column in told} for row in rows]


def models_used(folder: Path, manifest: Mapping[str, Any]) -> tuple[Used, ...]:
    """The models of every step, in order; those of versions from before models were listed are not known."""
    found = []
    for entry in manifest["steps"]:
        for key, identity in sorted((entry.get("models") or {}).items()):
            cut = _cut_of(_evidence(folder, entry["grain"]), entry["name"], key) if entry["operator"] in TELL_CUT else None
            lexical = identity.get("likeness") == "lexical"
            found.append(Used(entry["name"], key, identity["name"], identity["revision"], identity.get("backend"), lexical, cut))
    return tuple(found)


def said_of(store: Store, stage: "Stage") -> Iterator[str]:
    """What a person should know of a step that was just done: models that compare spelling, and texts that were cut off."""
    for key, identity in sorted(stage.models.items()):
        if identity.get("likeness") == "lexical":
            yield f"{stage.name}: {key} is lexical: it {LEXICAL}"
        if stage.kind in TELL_CUT:
            shards = (store.read_shard(shard, stage.snapshot.grain, ["evidence"]) for shard in stage.snapshot.shards)
            cut = _cut_of((table["evidence"] for table in shards), stage.name, key)
            if cut and cut.affected:
                yield f"{stage.name}: {key} did not read all of {cut}"


def _evidence(folder: Path, grain: str) -> Iterator[pa.ChunkedArray]:
    """The evidence of all rows of a grain, kept or dropped."""
    for table in (grain, f"dropped/{grain}"):
        files = files_of(folder, table)
        if "evidence" in files.schema.names:
            yield from (batch["evidence"] for batch in files.batches(["evidence"]))


def _cut_of(evidence: Iterator[pa.ChunkedArray], step: str, key: str) -> Cut | None:
    rows = affected = most = 0
    for column in evidence:
        entries = tables.flat(column).flatten()
        mine = pc.and_(pc.equal(entries.field("by"), step), pc.equal(entries.field("name"), cut_name(key)))
        mine = pc.fill_null(mine, False).to_numpy(zero_copy_only=False)
        values = entries.field("value").to_numpy(zero_copy_only=False)[mine]
        told = values[~np.isnan(values)]
        rows, affected, most = rows + len(told), affected + int((told > 0).sum()), max(most, int(told.max(initial=0)))
    return Cut(rows, affected, most) if rows else None
