"""The only place that makes bytes durable: write, fsync, rename, and the failpoints around each of them.

`CURATE_FAILPOINT=name:n` kills the process at the nth time it passes a failpoint of that name (`*` for any);
`CURATE_FAILPOINT_LOG=file` writes the names passed, so that a test can visit every one of them.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.errors import StoreError

_passed: dict[str, int] = {}
KILLED = 137  # what a shell reports for kill -9

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
    failpoint("before fsync")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    failpoint("after fsync")


sync_folder = sync_file
"""Wait until a folder's entries are on the disk."""


def rename(old: Path, new: Path) -> None:
    """Rename atomically and make the rename durable."""
    failpoint("before rename")
    os.rename(old, new)
    failpoint("after rename")
    sync_folder(new.parent)


def write_file(path: Path, content: bytes, scratch: Path) -> None:
    """Write a whole file so that readers see all of it or none: scratch file, fsync, rename."""
    with explain(path):
        make_folder(path.parent)
        temporary = make_folder(scratch) / uuid.uuid4().hex
        try:
            temporary.write_bytes(content)
            sync_file(temporary)
            rename(temporary, path)
        finally:
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
