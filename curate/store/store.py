"""Steps, snapshots and column files: what a run remembers so that nothing is computed twice.

objects/ab/<sha256>.arrow    row-aligned column files, named by content, shared by snapshots
shards/ab/<key>.json         finished work on one shard, of a step that may not be finished itself
snapshots/<id>.json          a table: its shards, each {column: object}
steps/<key>.json             what was asked, and the snapshot that came out
datasets/<name>/v0001/       versions (see versions.py)
runs/<id>/run.json           past runs
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate import tables
from curate.errors import Damaged, UnknownName
from curate.ids import canonical_json, digest
from curate.store import arrow, disk
from curate.tables import Grain


@dataclass(frozen=True)
class Shard:
    """Some rows of a table: which object holds each column; absent columns are null."""

    rows: int
    kept: int
    """Rows without a flag."""
    columns: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"rows": self.rows, "kept": self.kept, "columns": self.columns}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Shard":
        """The inverse of to_json."""
        return Shard(value["rows"], value["kept"], value["columns"])


@dataclass(frozen=True)
class Snapshot:
    """A table at one point of a recipe: immutable, named by its content."""

    grain: Grain
    shards: tuple[Shard, ...]
    left: str | None = None
    """Where the grain changed: the snapshot of the rows it was made from, flags of those that made nothing included."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What else belongs to the result, such as a source's rejects; its "objects" and "left_out" name column files."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; its digest is the snapshot's id."""
        shards = [shard.to_json() for shard in self.shards]
        return {"format": 1, "grain": self.grain, "shards": shards, "left": self.left, "extra": self.extra}

    @property
    def id(self) -> str:
        """Content id, 64 hex digits."""
        return digest(self.to_json())

    def objects(self) -> set[str]:
        """The column files it needs."""
        named = {name for shard in self.shards for name in shard.columns.values()}
        return named | set(self.extra.get("objects", [])) | set(self.extra.get("left_out", []))

    @property
    def rows(self) -> int:
        """Rows, flagged ones included."""
        return sum(shard.rows for shard in self.shards)

    @property
    def kept(self) -> int:
        """Rows without a flag."""
        return sum(shard.kept for shard in self.shards)


class Store:
    """A store's working memory, rooted at a folder. Safe for several processes: every file appears whole or not at all."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()

    @property
    def scratch(self) -> Path:
        """Folder of unfinished files; whatever a dead process left there is removed by `gc`."""
        return self.root / "tmp"

    def object_path(self, sha256: str) -> Path:
        """Where a column file lies."""
        return self.root / "objects" / sha256[:2] / f"{sha256}.arrow"

    def put_table(self, table: pa.Table) -> str:
        """Store a table as a column file and return its sha256."""
        return self.put_tables([table])[0]

    def put_tables(self, several: Sequence[pa.Table]) -> list[str]:
        """The same for several, and the disk is waited for once."""
        names: list[str] = []
        files: dict[Path, memoryview] = {}
        for table in several:
            content = memoryview(arrow.to_bytes(table))
            names.append(hashlib.sha256(content).hexdigest())
            path = self.object_path(names[-1])
            if not path.exists():
                files[path] = content
        disk.put_files(files, self.scratch)
        return names

    def put_shard(self, table: pa.Table, over: Shard | None = None) -> Shard:
        """Store a table's columns as a shard; `over`: the shard whose other columns it keeps."""
        return self.put_shards([(table, over)])[0]

    def put_shards(self, made: Sequence[tuple[pa.Table, Shard | None]]) -> list[Shard]:
        """The same for several (table, over), and the disk is waited for once."""
        written = [[name for name in table.column_names if table[name].null_count < table.num_rows] for table, _ in made]
        files = [tables.bare(table.select(names)) for (table, _), names in zip(made, written, strict=True) if names]
        objects = iter(self.put_tables(files))
        return [
            _shard(table, over, dict.fromkeys(names, next(objects)) if names else {})
            for (table, over), names in zip(made, written, strict=True)
        ]

    def read_shard(self, shard: Shard, grain: Grain, columns: Sequence[str] | None = None, start: int | None = None) -> pa.Table:
        """A shard's columns, absent ones null. start: ordinal of its first row, given to rows that have no `row`."""
        names = tables.SCHEMAS[grain].names if columns is None else list(columns)
        by_object: dict[str, list[str]] = {}
        for name in names:
            if name in shard.columns:
                by_object.setdefault(shard.columns[name], []).append(name)
        found: dict[str, pa.ChunkedArray] = {}
        for sha256, wanted in by_object.items():
            part = arrow.read(self.object_path(sha256), wanted)
            if part.num_rows != shard.rows:
                raise Damaged(f"{self.object_path(sha256)} holds {part.num_rows} rows, its shard {shard.rows}")
            found |= {name: part[name] for name in wanted}
        if "row" in names and "row" not in found and start is not None:
            found["row"] = pa.chunked_array([pa.array(np.arange(start, start + shard.rows, dtype=np.int64))])
        arrays = [found.get(name, pa.nulls(shard.rows, tables.SCHEMAS[grain].field(name).type)) for name in names]
        return pa.table(arrays, schema=pa.schema([(name, tables.SCHEMAS[grain].field(name).type) for name in names]))

    def read(self, snapshot: Snapshot, columns: Sequence[str] | None = None) -> Iterable[pa.Table]:
        """A snapshot's shards in order, with `row` filled in."""
        start = 0
        for shard in snapshot.shards:
            yield self.read_shard(shard, snapshot.grain, columns, start)
            start += shard.rows

    # -- snapshots and steps

    def put_snapshot(self, snapshot: Snapshot, left: Snapshot | None = None) -> str:
        """Store a snapshot and return its id. left: the one that it names, if it was not stored before."""
        self._put_json(*self._snapshot_files(left, snapshot))
        return snapshot.id

    def _snapshot_files(self, *snapshots: Snapshot | None) -> list[tuple[Path, dict[str, Any]]]:
        return [(self.root / "snapshots" / f"{one.id}.json", one.to_json()) for one in snapshots if one is not None]

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """The snapshot of that id."""
        value = self._get_json(self.root / "snapshots" / f"{snapshot_id}.json")
        if value is None:
            raise UnknownName(f"no snapshot {snapshot_id} in {self.root}")
        shards = tuple(Shard.from_json(shard) for shard in value["shards"])
        return Snapshot(value["grain"], shards, value["left"], value["extra"])

    def finish_step(
        self, key: str, asked: dict[str, Any], snapshot: Snapshot, counts: dict[str, Any], left: Snapshot | None = None
    ) -> None:
        """Record that a step is done: what was asked, what came out, and how many rows went where.

        left: the snapshot that `snapshot.left` names, if it was not stored before.
        """
        step = self.root / "steps" / f"{key}.json", {"asked": asked, "snapshot": snapshot.id, "counts": counts}
        self._put_json(*self._snapshot_files(left, snapshot), step)

    def finished_step(self, key: str) -> tuple[Snapshot, dict[str, Any]] | None:
        """The snapshot and counts a step left, or None if it was never finished or its files are gone."""
        value = self._get_json(self.root / "steps" / f"{key}.json")
        if value is None or not (self.root / "snapshots" / f"{value['snapshot']}.json").exists():
            return None
        snapshot = self.snapshot(value["snapshot"])
        return (snapshot, value["counts"]) if self.is_whole(snapshot) else None

    def is_whole(self, snapshot: Snapshot) -> bool:
        """Whether every file of the snapshot, and of the one it was made from, is there."""
        if not all(self.object_path(name).exists() for name in snapshot.objects()):
            return False
        if snapshot.left is None:
            return True
        return (self.root / "snapshots" / f"{snapshot.left}.json").exists() and self.is_whole(self.snapshot(snapshot.left))

    # -- shard memory: what one operator made of one shard, named by the operator and the shard's content

    def _memory(self, key: str) -> Path:
        return self.root / "shards" / key[:2] / f"{key}.json"

    def remember(self, key: str, value: dict[str, Any]) -> None:
        """Remember a piece of finished work. value["objects"] lists the column files it needs."""
        disk.failpoint("before shard")
        self._put_json((self._memory(key), value))
        disk.failpoint("after shard")

    def remembered(self, key: str) -> dict[str, Any] | None:
        """What is remembered under a key, if all its files are there; else None."""
        value = self._get_json(self._memory(key))
        if value is None or not all(self.object_path(name).exists() for name in value["objects"]):
            return None
        return value

    # -- plain JSON files

    def _put_json(self, *files: tuple[Path, dict[str, Any]]) -> None:
        """In this order: none is there before those that it names."""
        disk.put_files({path: canonical_json(value).encode() for path, value in files}, self.scratch)

    def _get_json(self, path: Path) -> dict[str, Any] | None:
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Damaged(f"{path} is not JSON ({error}); remove it and run again: the step is computed anew") from error
        if not isinstance(value, dict):
            raise Damaged(f"{path} is not a JSON object; remove it and run again: the step is computed anew")
        return value

    def damage(self) -> list[str]:
        """What is wrong with the column files: missing ones that a snapshot needs, changed ones; empty if all is well."""
        needed = {n for p in (self.root / "snapshots").glob("*.json") for n in self.snapshot(p.stem).objects()}
        present = {path.stem: path for path in (self.root / "objects").glob("*/*.arrow")}
        missing = [
            f"{self.object_path(name)} is missing: the step that needs it is computed again"
            for name in sorted(needed - set(present))
        ]
        changed = [
            f"{path} was changed after it was written; remove it and run again"
            for name, path in sorted(present.items())
            if arrow.sha256_of(path) != name
        ]
        return missing + changed

    def writable(self) -> None:
        """Raise StoreError if nothing can be written here."""
        disk.make_folder(self.scratch)
        probe = self.scratch / f"probe-{os.getpid()}"
        with disk.explain(self.root):
            probe.write_bytes(b"")
            probe.unlink()


def _shard(table: pa.Table, over: Shard | None, objects: dict[str, str]) -> Shard:
    """A table's shard. objects: the column file of each column that is not all null."""
    kept_columns = {name: file for name, file in over.columns.items() if name not in table.column_names} if over else {}
    rows = over.rows if over else table.num_rows
    before = over.kept if over else table.num_rows
    kept = int(tables.is_kept(table).sum()) if "flags" in table.column_names else before
    return Shard(rows, kept, dict(sorted((kept_columns | objects).items())))
