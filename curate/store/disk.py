"""The only place that makes bytes durable: write, fsync, rename, and the failpoints around each of them.

`CURATE_FAILPOINT=name:n` kills the process at the nth time it passes a failpoint of that name (`*` for any);
`CURATE_FAILPOINT_LOG=file` writes the names passed, so that a test can visit every one of them.
"""

import errno
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from curate.errors import StoreError

_passed: dict[str, int] = {}
KILLED = 137  # what a shell reports for kill -9
SYNCED_AT_ONCE = 16  # files that are waited for together

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the disk is mounted read-only",
    errno.ENOTDIR: "part of that path is a file, not a folder",
}


def failpoint(name: str) -> None:
    """Die here if the environment says so; costs one dictionary look-up otherwise."""
    if log := os.environ.get("CURATE_FAILPOINT_LOG"):
        with open(log, "a") as out:
            out.write(name + "\n")
    wanted = os.environ.get("CURATE_FAILPOINT")
    if not wanted:
        return
    target, _, count = wanted.rpartition(":")
    if target in (name, "*"):
        _passed[target] = _passed.get(target, 0) + 1
        if _passed[target] == int(count):
            os._exit(KILLED)


@contextmanager
def explain(path: Path) -> Iterator[None]:
    """Turn an operating-system error on `path` into one sentence that says what to do."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise StoreError(
            f"cannot write {path}: {reason}. Everything committed before is safe; make room or choose another place with "
            f"--store (or CURATE_STORE), then run the same command again: it continues where it stopped."
        ) from error


def make_folder(path: Path) -> Path:
    """The folder, made if absent."""
    with explain(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    sync_files([path])


sync_folder = sync_file
"""Wait until a folder's entries are on the disk."""


def sync_files(paths: Sequence[Path]) -> None:
    """Wait until the bytes of several files are on the disk, for all at once: file systems commit them together."""
    if not paths:
        return
    failpoint("before fsync")
    problems: list[OSError] = []

    def sync(path: Path) -> None:
        try:
            _fsync(path)
        except OSError as problem:
            problems.append(problem)

    others = [threading.Thread(target=sync, args=(path,)) for path in paths[1:SYNCED_AT_ONCE]]
    for thread in others:
        thread.start()
    for path in [*paths[:1], *paths[SYNCED_AT_ONCE:]]:
        sync(path)
    for thread in others:
        thread.join()
    if problems:
        raise problems[0]
    failpoint("after fsync")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(old: Path, new: Path) -> None:
    """Rename atomically and make the rename durable."""
    _rename(old, new)
    sync_folder(new.parent)


def _rename(old: Path, new: Path) -> None:
    failpoint("before rename")
    os.rename(old, new)
    failpoint("after rename")


def write_file(path: Path, content: bytes, scratch: Path) -> None:
    """Write a whole file so that readers see all of it or none, and no power cut takes it: scratch file, fsync, rename, fsync."""
    put_files({path: content}, scratch)
    with explain(path):
        sync_folder(path.parent)


def put_files(files: Mapping[Path, "bytes | memoryview"], scratch: Path) -> None:
    """Write whole files: readers see all of each or nothing, and none before those that stand before it.

    A power cut may take the names of the latest files, as if they had not been written, but never leaves half of one. That
    is enough for what is made again where it is missing, and half as long a wait.
    """
    written: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            with explain(path):
                make_folder(path.parent)
                written[path] = make_folder(scratch) / uuid.uuid4().hex
                written[path].write_bytes(content)
        with explain(scratch):
            sync_files(list(written.values()))
        for path, temporary in written.items():
            with explain(path):
                _rename(temporary, path)
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)


def refresh_file(path: Path, content: bytes, scratch: Path) -> None:
    """Write a whole file that is soon written again: never half of it is seen, but a power cut may lose it."""
    temporary = make_folder(scratch) / uuid.uuid4().hex
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder and what is in it; nothing happens if it is not there."""
    shutil.rmtree(path, ignore_errors=True)
