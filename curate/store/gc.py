"""Free what nothing points at: objects of no snapshot, snapshots of no step, scratch of dead processes.

The source of the latest version of each dataset stays whatever its age: the next refresh adds to it.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import Damaged
from curate.store import disk
from curate.store.store import Store
from curate.store.versions import Versions

SCRATCH_SECONDS = 86_400.0  # a scratch file untouched for a day belongs to nobody


@dataclass(frozen=True)
class Garbage:
    """What can be freed."""

    files: tuple[Path, ...]
    bytes: int


def _live(store: Store, keys: set[str] | None) -> tuple[set[str], set[str]]:
    """Snapshots and objects that a step (of `keys`, if given) or a latest version's source points at."""
    todo = list(_latest_sources(store))
    todo += [_read(path)["snapshot"] for path in (store.root / "steps").glob("*.json") if keys is None or path.stem in keys]
    snapshots: set[str] = set()
    objects: set[str] = set()
    while todo:
        name = todo.pop()
        if name in snapshots or not (store.root / "snapshots" / f"{name}.json").exists():
            continue
        snapshots.add(name)
        snapshot = store.snapshot(name)
        objects |= snapshot.objects()
        if snapshot.left:
            todo.append(snapshot.left)
    return snapshots, objects


def _latest_sources(store: Store) -> Iterator[str]:
    """The source snapshot of the latest version of each dataset; a damaged manifest names none."""
    versions = Versions(store.root)
    for latest in filter(None, map(versions.latest, versions.names())):
        with suppress(Damaged, LookupError, TypeError):
            yield str(latest.manifest["steps"][0]["snapshot"])


def _young_steps(store: Store, seconds: float) -> set[str]:
    oldest = time.time() - seconds
    return {path.stem for path in (store.root / "steps").glob("*.json") if path.stat().st_mtime >= oldest}


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_bytes())
    return value


def _dead(store: Store, keys: set[str] | None, older_than: float) -> Iterator[Path]:
    snapshots, objects = _live(store, keys)
    before = time.time() - older_than
    # a running process writes objects before the record that points at them: young files are never garbage
    for path in (store.root / "objects").glob("*/*.arrow"):
        if path.stem not in objects and path.stat().st_mtime < before:
            yield path
    for path in (store.root / "snapshots").glob("*.json"):
        if path.stem not in snapshots and path.stat().st_mtime < before:
            yield path
    for path in (store.root / "shards").glob("*/*.json"):  # work of unfinished steps stays while it is young
        if path.stat().st_mtime < before and not set(_read(path)["objects"]) <= objects:
            yield path
    for path in (store.root / "steps").glob("*.json"):
        if keys is not None and path.stem not in keys and path.stat().st_mtime < before:
            yield path
    for path in (store.root / "tmp").rglob("*"):
        if path.is_file() and path.stat().st_mtime < time.time() - min(SCRATCH_SECONDS, max(older_than, 3600.0)):
            yield path


def find(store: Store, older_than: float = SCRATCH_SECONDS, unused_for: float | None = None) -> Garbage:
    """Files nothing points at and nobody touched for `older_than` seconds.

    unused_for: also finished steps recorded longer ago than that many seconds; None keeps every finished step.
    """
    files = tuple(sorted(_dead(store, None if unused_for is None else _young_steps(store, unused_for), older_than)))
    return Garbage(files, sum(path.stat().st_size for path in files))


def free(store: Store, garbage: Garbage) -> None:
    """Remove what `find` found; versions are never touched."""
    # records first, so that a kill in between leaves unused objects and never a record without its objects
    for path in sorted(garbage.files, key=lambda path: path.suffix != ".json"):
        path.unlink(missing_ok=True)
    for folder in sorted((store.root / "tmp").glob("*"), reverse=True):
        if folder.is_dir() and not any(os.scandir(folder)):
            disk.remove_tree(folder)
