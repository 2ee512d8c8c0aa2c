"""Write a version: kept rows, dropped rows with their reason, the recipe, the manifest and the card."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from curate import __version__, tables
from curate.errors import StoreError
from curate.ids import digest
from curate.operator import Operator
from curate.publish import gates, reliability
from curate.publish.card import card
from curate.publish.figures import figures
from curate.publish.layout import Layout, first_flag, plan, splits_of
from curate.publish.metric_names import COST
from curate.publish.metrics import Asked, metrics
from curate.publish.token_logprobs import token_columns
from curate.store import arrow
from curate.store.store import Snapshot, Store
from curate.store.versions import Version, Versions
from curate.tables import Grain

FORMAT = 1
PART_BYTES = 256_000_000  # a data file's rows take at most about this much memory


@dataclass(frozen=True)
class Stage:
    """A step that is done."""

    name: str
    kind: str
    """The operator's name in a recipe; source for the first stage."""
    operator: Operator | None
    grain: Grain
    """Grain of the rows it was given."""
    key: str
    snapshot: Snapshot
    counts: dict[str, Any]
    line: int | None
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What tells each model it asked from others, by the key in the recipe."""

    def to_json(self) -> dict[str, Any]:
        """Its entry in the manifest."""
        cut = self.operator.cut() if self.operator else None
        return {
            "name": self.name,
            "operator": self.kind,
            "parameters": self.operator.parameters() if self.operator else {},
            "key": self.key,
            "snapshot": self.snapshot.id,
            "grain": self.grain,
            "makes": self.operator.makes if self.operator else None,
            "rows_in": self.counts["rows_in"],
            "kept": self.counts["kept"],
            "made": self.counts["made"],
            "dropped": self.counts["dropped"],
            "cut": cut._asdict() if cut else None,
            "line": self.line,
        } | ({"models": {key: dict(identity) for key, identity in self.models.items()}} if self.models else {})


class RecipeLike(Protocol):
    """What publishing needs to know of a recipe."""

    @property
    def name(self) -> str:
        """Name of the dataset."""

    @property
    def text(self) -> str:
        """The recipe as resolved, secrets unexpanded."""


@dataclass(frozen=True)
class Publication:
    """Everything a version is made from."""

    store: Store
    recipe: RecipeLike
    stages: tuple[Stage, ...]
    about: dict[str, Any]
    """What differs between equal runs: time, host, command, cost."""
    preview: bool = False
    gates: Mapping[str, str] = field(default_factory=dict)
    """Metric: condition; all must hold for a version to be published."""

    @property
    def finals(self) -> dict[Grain, Snapshot]:
        """The last state of the table of each grain."""
        found: dict[Grain, Snapshot] = {}
        for stage in self.stages:
            found[stage.snapshot.grain] = stage.snapshot
            if stage.snapshot.left is not None:
                left = self.store.snapshot(stage.snapshot.left)
                found[left.grain] = left
        return found

    @property
    def grain(self) -> Grain:
        """Grain of the product."""
        return self.stages[-1].snapshot.grain

    @property
    def made_from(self) -> str:
        """Digest of everything that decides the content: equal digests need not be written to be compared."""
        return digest(
            {"format": FORMAT, "curate": __version__, "recipe": self.recipe.text, "steps": [s.to_json() for s in self.stages]}
        )


def publish(publication: Publication, publish_anyway: bool = False) -> tuple[Version, bool]:
    """Commit a version and return it with True; or the latest version and False if that holds the same content.

    Raises GateClosed, with nothing published, if a gate does not hold; publish_anyway: the manifest says so instead. A
    preview is made in any case: its manifest tells which gates would be closed.
    """
    check_balance(publication.stages)
    versions = Versions(publication.store.root)
    name = publication.recipe.name
    latest = versions.latest(name)
    if latest and not publication.preview and latest.manifest["made_from"] == publication.made_from:
        return latest, False
    with versions.staging(name) as folder:
        staged = write(publication, folder, latest, publish_anyway)
        if publication.preview:
            return versions.replace_preview(name, folder), True
        if latest and holds(latest.manifest, staged.manifest):
            return latest, False
        if not publish_anyway:
            gates.refuse(staged.results, staged.manifest["metrics"])
        return versions.commit(name, folder), True


def holds(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a version holds what another would: the same files, and all that the other tells of its tokens."""
    told = [{tuple(one) for one in manifest.get("tokens", ())} for manifest in (before, after)]
    return bool(before["content"] == after["content"] and told[1] <= told[0])


def check_balance(stages: tuple[Stage, ...]) -> None:
    """Kept + dropped = input for every step, and every step saw what the one before it kept."""
    for before, stage in zip((None, *stages), stages, strict=False):
        counts = stage.counts
        if counts["kept"] + sum(counts["dropped"].values()) != counts["rows_in"]:
            raise StoreError(f"step {stage.name} does not balance: {counts}; nothing was published, report this")
        if before and before.snapshot.kept != counts["rows_in"]:
            raise StoreError(
                f"step {stage.name} saw {counts['rows_in']} rows of {before.snapshot.kept}; nothing was published, report this"
            )


@dataclass(frozen=True)
class Staged:
    """A version that is written and not yet published."""

    manifest: dict[str, Any]
    results: tuple[gates.Result, ...]
    """How it stands to its gates."""


def write(publication: Publication, folder: Path, before: Version | None, publish_anyway: bool = False) -> Staged:
    """Write a version's files into a folder. before: the last numbered version, which drift is measured from."""
    layouts, splits = _write_tables(publication, folder)
    (folder / "recipe.yaml").write_text(publication.recipe.text, encoding="utf-8")
    rejects = _write_rejects(publication, folder)
    raters = layouts[publication.grain].raters
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "curate": __version__,
        "name": publication.recipe.name,
        "grain": publication.grain,
        "made_from": publication.made_from,
        "splits": splits,
        "rejects": rejects,
        "steps": [stage.to_json() for stage in publication.stages],
        "raters": {column: [list(pair) for pair in pairs] for column, pairs in raters.items() if pairs},
    }
    data = _listing(folder, lambda path: path.suffix == ".arrow" or path.name == "rejects.jsonl")
    manifest["content"] = digest([[entry["path"], entry["sha256"]] for entry in data])
    if told := token_columns(publication.stages):
        manifest["tokens"] = told  # the store keeps them
    found = figures(folder, manifest)
    manifest["metrics"] = metrics(folder, manifest, found, asked_of(publication.stages), before)
    results = gates.evaluate(publication.gates, manifest["metrics"] | {COST: cost_of(publication)}, first=before is None)
    manifest |= _gate_entries(publication, results, publish_anyway)
    reliability.write(folder, manifest)  # which the card reads
    (folder / "README.md").write_text(card(folder, manifest, found), encoding="utf-8")
    manifest["files"] = _listing(folder, lambda path: True)
    (folder / "manifest.json").write_text(
        json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / "run.json").write_text(json.dumps(publication.about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Staged(manifest, results)


def _gate_entries(publication: Publication, results: tuple[gates.Result, ...], publish_anyway: bool) -> dict[str, Any]:
    """What the manifest says of gates: nothing if the recipe has none."""
    entries = {"gates": [result.to_json() for result in results]} if results else {}
    forced = publish_anyway and not publication.preview and bool(gates.closed(results))
    return entries | ({"published_anyway": True} if forced else {})


def asked_of(stages: Sequence[Stage]) -> dict[str, Asked]:
    """By step that asks models: rows without an answer, of how many."""
    found = {}
    for stage in stages:
        if stage.operator is not None and stage.operator.models():
            counts = stage.counts
            found[stage.name] = Asked(sum(counts.get("errors", {}).values()), max(counts["rows_in"], counts["made"] or 0))
    return found


def cost_of(publication: Publication) -> float | None:
    """US dollars of the run; None if its models do not tell."""
    cost: float | None = publication.about.get("cost_usd")
    return 0.0 if cost is None and not asked_of(publication.stages) else cost


def _write_tables(publication: Publication, folder: Path) -> tuple[dict[Grain, Layout], dict[str, int]]:
    layouts: dict[Grain, Layout] = {}
    splits: dict[str, int] = {}
    for grain, snapshot in publication.finals.items():
        layouts[grain] = plan(publication.store, snapshot)
        main = grain == publication.grain
        with Parts(folder) as parts:
            for table in publication.store.read(snapshot):
                kept = pa.array(tables.is_kept(table))
                if main:
                    for split, rows in splits_of(table.filter(kept)):
                        parts.write(f"{grain}/{split}", layouts[grain](rows))
                        splits[split] = splits.get(split, 0) + rows.num_rows
                elif grain == "responses":
                    parts.write("responses/all", layouts[grain](table.filter(kept)))
                parts.write(f"dropped/{grain}", dropped_layout(layouts[grain], table.filter(pc.invert(kept))))
            if main and not any(splits.values()):
                parts.write(f"{grain}/train", layouts[grain](tables.empty(grain)), even_empty=True)
                splits["train"] = 0
    return layouts, splits


def dropped_layout(layout: Layout, table: pa.Table) -> pa.Table:
    """Dropped rows in the layout of the kept ones, and the flag that dropped each."""
    laid = layout(table)
    names = {"by": "dropped_by", "reason": "reason", "value": "value", "other": "other"}
    for name, column in first_flag(table["flags"]).items():
        laid = laid.append_column(names[name], column)
    return laid


@dataclass
class Parts:
    """Arrow files that grow part by part: prefix-00000.arrow, prefix-00001.arrow, ..."""

    folder: Path
    _open: dict[str, tuple[Any, int, int]] = field(default_factory=dict)
    """prefix: (writer, number of the part, bytes written to it)"""

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *_: object) -> None:
        for writer, _number, _size in self._open.values():
            writer.close()

    def write(self, prefix: str, table: pa.Table, even_empty: bool = False) -> None:
        """Add rows to the part of that prefix that is being written."""
        if not table.num_rows and not even_empty:
            return
        writer, number, size = self._open.get(prefix, (None, -1, PART_BYTES))
        if size >= PART_BYTES:
            if writer is not None:
                writer.close()
            number, size = number + 1, 0
            path = self.folder / f"{prefix}-{number:05d}.arrow"
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = pa.ipc.new_file(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        writer.write_table(table.combine_chunks(), max_chunksize=arrow.BATCH_ROWS)
        self._open[prefix] = (writer, number, size + table.nbytes)


def _write_rejects(publication: Publication, folder: Path) -> dict[str, Any]:
    extra = publication.stages[0].snapshot.extra
    objects: list[str] = extra.get("objects", [])
    if objects:
        with (folder / "rejects.jsonl").open("w", encoding="utf-8") as out:
            for name in objects:
                for batch in arrow.batches(publication.store.object_path(name)):
                    for row in batch.to_pylist():
                        out.write(json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False) + "\n")
    rejects: dict[str, Any] = extra.get("rejects", {"read": 0, "rejected": 0, "reasons": {}})
    return rejects


def _listing(folder: Path, wanted: Any) -> list[dict[str, Any]]:
    return [
        {"path": str(path.relative_to(folder)), "sha256": arrow.sha256_of(path), "bytes": path.stat().st_size} | _rows(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and wanted(path)
    ]


def _rows(path: Path) -> dict[str, int]:
    if path.suffix != ".arrow":
        return {}
    with pa.memory_map(str(path)) as source:
        return {"rows": pa.ipc.open_file(source).count_rows()}
