"""Find a source's files, and name their contents for step keys."""

import difflib
import glob
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate import packaged
from curate.errors import DataError, StoreError, UnknownName
from curate.source import hub
from curate.source.formats import COMPRESSED, SUFFIXES, format_of, no_format
from curate.source.spec import HUB_ID, Join, OneOrMore, Place, Source, listed

READER = 1  # raised whenever the same files and settings would now give other rows
ENVIRONMENT = re.compile(r"\$\{(\w+)\}")
SETTLED_NS = 2_000_000_000  # a file changed less than 2 s ago may change again within the clock's tick: its hash is not kept


def expand(text: str, base: Path) -> Path:
    """A path of a recipe: ${NAME}, ~ and samples: expanded, relative to `base`. DataError for a variable that is not set."""
    if text.startswith(packaged.SAMPLES):
        return packaged.sample(text)

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise DataError(f"environment variable {found[1]} is not set; path {text!r} needs it")
        return os.environ[found[1]]

    return base / Path(ENVIRONMENT.sub(value, text)).expanduser()


def files_of(place: Place, base: Path) -> list[Path]:
    """The files behind a path, a glob or a folder (searched whole), in the order of their names. DataError if there are none."""
    path = expand(str(place.path), base)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and format_of(file.name) and not _hidden(file, path))
        if not found:
            raise DataError(
                f"{place.path}: no file in this folder has a known suffix "
                f"({', '.join(SUFFIXES)}, also with {', '.join(COMPRESSED)})"
            )
        return found
    if path.is_file():
        return [path]
    found = (
        sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        if glob.has_magic(str(path))
        else []
    )
    if not found:
        raise DataError(_not_there(str(place.path), path))
    return found


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)


def _not_there(told: str, path: Path) -> str:
    if glob.has_magic(str(path)):
        return f"{told}: no file matches this pattern"
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        path, folder = folder, folder.parent
    try:
        near = difflib.get_close_matches(path.name, sorted(os.listdir(folder)), 1)
    except OSError as error:
        return f"{told}: {folder} cannot be read ({error.strerror})"
    return f"{told}: no {path.name!r} in {folder}" + (f", did you mean {near[0]!r}?" if near else "")


def local_folder(place: Place, base: Path) -> Path | None:
    """The folder that `hf` names, or None if it names a dataset on the hub. DataError if it is neither."""
    path = expand(str(place.hf), base)
    if path.is_dir():
        return path
    if HUB_ID.fullmatch(str(place.hf)):
        return None
    raise DataError(_not_there(str(place.hf), path))


def missing_files(source: OneOrMore, base: Path) -> list[str]:
    """A sentence for each file of a source that cannot be found, read or told by its suffix."""
    return [problem for place in _places(source) if (problem := _problem(place, base))]


def _places(source: OneOrMore) -> Iterator[Place]:
    for one in listed(source):
        yield one
        yield from one.join


def _problem(place: Place, base: Path) -> str | None:
    try:
        if place.hf is not None:
            local_folder(place, base)
        if place.path is None:
            return None
        for file in files_of(place, base):
            if place.format is None and format_of(file.name) is None:
                return no_format(str(place.path), file.name)
            if not os.access(file, os.R_OK):
                return f"{place.path}: {file.name!r} may not be read; change its permissions"
    except DataError as error:
        return str(error)
    return None


def fingerprint(source: OneOrMore, base: Path, memo: Path, store_root: Path | None = None) -> dict[str, Any]:
    """What a source is, as JSON: its settings and the contents of its files in order. Folders are not part of it, names are.

    A file's name is written in the rows' `source`, so a renamed file is another source; a moved one is the same.
    """
    return {"reader": READER, "sources": [_identity(one, base, memo, store_root) for one in listed(source)]}


def _identity(source: Source, base: Path, memo: Path, store_root: Path | None) -> dict[str, Any]:
    elsewhere = {"path", "hf", "version", "revision", "join", "max_rejects"}
    settings = source.model_dump(mode="json", by_alias=True, exclude=elsewhere, exclude_defaults=True)
    out: dict[str, Any] = {"settings": settings}
    if source.version is not None:
        out["version"] = {"name": source.version, "content": version_content(source, store_root)}
    else:
        out |= _content(source, base, memo)
    if source.join:
        out["join"] = [_joined(join, base, memo) for join in source.join]
    return out


def _joined(join: Join, base: Path, memo: Path) -> dict[str, Any]:
    settings = join.model_dump(mode="json", exclude={"path", "hf", "revision"}, exclude_defaults=True)
    return {"settings": settings} | _content(join, base, memo)


def _content(place: Place, base: Path, memo: Path) -> dict[str, Any]:
    if place.path is not None:
        return {"files": [[file.name, sha256_of(file, memo)] for file in files_of(place, base)]}
    folder = local_folder(place, base)
    if folder is None:
        return {"hub": {"name": place.hf, "commit": hub.commit_of(str(place.hf), place.revision)}}
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not _hidden(file, folder))
    return {"folder": folder.name, "files": [[file.relative_to(folder).as_posix(), sha256_of(file, memo)] for file in files]}


def version_folder(source: Source, store_root: Path | None) -> Path:
    """The folder of an earlier version. UnknownName if it is not there."""
    name, _, number = str(source.version).partition("@v")
    if store_root is None:
        raise UnknownName(f"no store to look for {source.version} in; name one with --store")
    folder = store_root / "datasets" / name / f"v{int(number):04d}"
    if not (folder / "manifest.json").is_file():
        raise UnknownName(f"no version {source.version} in {store_root}; `curate versions` lists those it has")
    return folder


def version_content(source: Source, store_root: Path | None) -> str:
    """The content id in an earlier version's manifest."""
    folder = version_folder(source, store_root)
    try:
        return str(json.loads((folder / "manifest.json").read_text())["content"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / 'manifest.json'} cannot be read; run `curate verify {source.version}`") from error


def sha256_of(file: Path, memo: Path) -> str:
    """A file's sha256, remembered in `memo` by path, size, modification time and inode."""
    stat = file.stat()
    path = str(file.resolve())
    seen = [path, stat.st_size, stat.st_mtime_ns, stat.st_ino]
    note = memo / f"{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
    try:
        known = json.loads(note.read_text())
        if known["file"] == seen:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no note, or a torn one: hash again
    with file.open("rb") as stream:
        sha = hashlib.file_digest(stream, "sha256").hexdigest()
    after = file.stat()
    if (after.st_size, after.st_mtime_ns) == (stat.st_size, stat.st_mtime_ns) and time.time_ns() - stat.st_mtime_ns > SETTLED_NS:
        _remember(note, {"file": seen, "sha256": sha})
    return sha


def _remember(note: Path, entry: dict[str, Any]) -> None:
    draft = note.with_suffix(f".{os.getpid()}.tmp")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(entry))
        draft.replace(note)
    except OSError:
        draft.unlink(missing_ok=True)  # the memo saves time only; a folder that cannot be written costs a hash
