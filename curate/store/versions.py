"""Versions: numbered, immutable, self-contained folders, committed by one rename."""

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.errors import Damaged, StoreError, UnknownName, UsageError
from curate.store import arrow, disk

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NUMBER = re.compile(r"v(\d{4,})")
PREVIEW = "preview"


@dataclass(frozen=True)
class Version:
    """A version folder."""

    name: str
    label: str
    """v0007, or preview."""
    path: Path

    @property
    def number(self) -> int:
        """The version number; 0 for a preview."""
        match = NUMBER.fullmatch(self.label)
        return int(match[1]) if match else 0

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """manifest.json."""
        return read_json(self.path / "manifest.json")

    @cached_property
    def run(self) -> dict[str, Any]:
        """run.json, the one file that differs between equal runs; empty if absent."""
        path = self.path / "run.json"
        return read_json(path) if path.exists() else {}

    def __str__(self) -> str:
        return f"{self.name}@{'preview' if self.number == 0 else f'v{self.number}'}"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a version."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise Damaged(f"{path} is not a JSON object")
    return value


def check_name(name: str) -> str:
    """The name, if it can name a dataset: letters, digits, dot, dash and underscore."""
    if not NAME.fullmatch(name) or ".." in name:
        raise UsageError(
            f"{name!r} cannot name a dataset: use letters, digits, '.', '-' and '_', starting with a letter or digit"
        )
    return name


class Versions:
    """The datasets of a store."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()
        self.datasets = self.root / "datasets"

    def names(self) -> list[str]:
        """Names of the datasets that have a folder here, sorted."""
        if not self.datasets.is_dir():
            return []
        return sorted(entry.name for entry in os.scandir(self.datasets) if entry.is_dir() and NAME.fullmatch(entry.name))

    def numbers(self, name: str) -> list[int]:
        """Version numbers of a dataset, ascending; empty if there are none."""
        folder = self.datasets / check_name(name)
        if not folder.is_dir():
            return []
        return sorted(int(match[1]) for entry in os.scandir(folder) if (match := NUMBER.fullmatch(entry.name)))

    def version(self, name: str, number: int) -> Version:
        """The version folder of that number, whether or not it exists."""
        label = f"v{number:04d}"
        return Version(name, label, self.datasets / check_name(name) / label)

    def latest(self, name: str) -> Version | None:
        """The newest version of a dataset, or None."""
        numbers = self.numbers(name)
        return self.version(name, numbers[-1]) if numbers else None

    def all(self, name: str) -> Iterator[Version]:
        """Every version of a dataset, oldest first."""
        for number in self.numbers(name):
            yield self.version(name, number)

    def find(self, reference: str) -> Version:
        """The version a user means by NAME (the newest), NAME@v7, NAME@7, NAME@latest, NAME@tag or NAME@preview."""
        name, _, which = reference.partition("@")
        check_name(name)
        if name not in self.names():
            known = ", ".join(self.names()) or "none yet"
            raise UnknownName(f"no dataset '{name}' in {self.root} (there: {known})")
        if which == PREVIEW:
            preview = Version(name, PREVIEW, self.datasets / name / PREVIEW)
            if not preview.path.is_dir():
                raise UnknownName(f"'{name}' has no preview; `curate run RECIPE --limit N` makes one")
            return preview
        numbers = self.numbers(name)
        if not numbers:
            raise UnknownName(f"'{name}' has no version yet; `curate run` publishes one")
        number = self._number(name, which, numbers)
        if number not in numbers:
            raise UnknownName(
                f"'{name}' has no version {which}; it has v{numbers[0]} to v{numbers[-1]}, `curate versions {name}` lists them"
            )
        return self.version(name, number)

    def _number(self, name: str, which: str, numbers: list[int]) -> int:
        if which in ("", "latest"):
            return numbers[-1]
        if match := re.fullmatch(r"v?0*(\d+)", which):
            return int(match[1])
        tags = self.tags(name)
        if which not in tags:
            raise UnknownName(f"'{name}' has no tag '{which}' (there: {', '.join(sorted(tags)) or 'none'})")
        return tags[which]

    # -- writing

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """A folder on the store's disk to build a version in; removed unless it was committed."""
        check_name(name)
        folder = disk.make_folder(self.root / "tmp" / f"version-{os.getpid()}-{uuid.uuid4().hex}")
        try:
            with disk.explain(folder):
                yield folder
        finally:
            disk.remove_tree(folder)

    def commit(self, name: str, staged: Path) -> Version:
        """Give a staged folder the next free number. Its files are synced first."""
        sync_staged(staged)
        parent = disk.make_folder(self.datasets / check_name(name))
        with disk.explain(parent):
            while True:
                number = (self.numbers(name) or [0])[-1] + 1
                target = self.version(name, number)
                try:
                    disk.rename(staged, target.path)
                except OSError as error:  # renaming onto a folder with files in it: somebody was faster
                    if not target.path.exists():
                        raise
                    if number > 10**6:
                        raise StoreError(f"cannot number a version of '{name}' after {number}") from error
                    continue
                return target

    def replace_preview(self, name: str, staged: Path) -> Version:
        """Put a staged folder in place as the dataset's preview, which has no number."""
        sync_staged(staged)
        target = Version(name, PREVIEW, disk.make_folder(self.datasets / check_name(name)) / PREVIEW)
        if target.path.exists():
            old = self.root / "tmp" / f"old-{uuid.uuid4().hex}"
            disk.rename(target.path, old)
            disk.remove_tree(old)
        disk.rename(staged, target.path)
        return target

    # -- tags

    def tags(self, name: str) -> dict[str, int]:
        """Tags of a dataset and the version number each points at."""
        path = self.datasets / check_name(name) / "tags.json"
        return {str(tag): int(number) for tag, number in read_json(path).items()} if path.exists() else {}

    def tag(self, name: str, tag: str, number: int | None) -> None:
        """Point a tag at a version; None removes it."""
        if re.fullmatch(r"v?\d+|latest|preview", tag) or not NAME.fullmatch(tag):
            raise UsageError(
                f"{tag!r} cannot be a tag: use letters, digits, '.', '-' and '_', and nothing that reads as a version"
            )
        tags = self.tags(name)
        if number is None:
            if tag not in tags:
                raise UnknownName(f"'{name}' has no tag '{tag}' (there: {', '.join(sorted(tags)) or 'none'})")
            del tags[tag]
        else:
            tags[tag] = number
        content = json.dumps(tags, indent=1, sort_keys=True).encode()
        disk.write_file(self.datasets / name / "tags.json", content, self.root / "tmp")


def sync_staged(staged: Path) -> None:
    """Make every file of a staged folder durable. Nobody sees one of them before it is renamed."""
    disk.sync_files([staged, *sorted(staged.rglob("*"))])


def damage(version: Version) -> list[str]:
    """What is wrong with a version's files: missing, changed or unlisted ones; empty if every sha256 agrees."""
    listed = {entry["path"]: entry for entry in version.manifest["files"]}
    problems = []
    for name, entry in listed.items():
        path = version.path / name
        if not path.is_file():
            problems.append(f"{version}: {name} is missing")
        elif arrow.sha256_of(path) != entry["sha256"]:
            problems.append(f"{version}: {name} was changed after it was published")
    present = {str(path.relative_to(version.path)) for path in version.path.rglob("*") if path.is_file()}
    problems += [
        f"{version}: {name} is not in the manifest" for name in sorted(present - set(listed) - {"manifest.json", "run.json"})
    ]
    return problems


def data_files(version: Version, folder: str) -> list[Path]:
    """The Arrow files of one folder of a version, such as pairs or dropped/pairs, in order."""
    parent, _, prefix = folder.partition("/")
    paths = sorted((version.path / parent).glob(f"{prefix}*.arrow" if prefix else "*.arrow"))
    return [path for path in paths if path.is_file()]


def read_version(version: Version, folder: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of one folder of a version in batches of at most 4,096."""
    for path in data_files(version, folder):
        yield from arrow.batches(path, columns)
