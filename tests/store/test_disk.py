"""Whole files or none, several at once, and in their order."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curate.errors import StoreError
from curate.store import disk

WRITE = """
import sys
from pathlib import Path
from curate.store import disk
root = Path(sys.argv[1])
disk.put_files({root / name: name.encode() for name in "abc"}, root / "tmp")
"""


def test_files_appear_in_their_order(tmp_path: Path) -> None:
    """Killed before the second is renamed, the first is there, whole, and the others are not."""
    environment = os.environ | {"CURATE_FAILPOINT": "before rename:2"}
    done = subprocess.run([sys.executable, "-c", WRITE, str(tmp_path)], env=environment)
    assert done.returncode == disk.KILLED
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {"a": "a"}


def test_several_files_are_waited_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("CURATE_FAILPOINT_LOG", str(log))
    disk.put_files({tmp_path / "x" / str(number): b"content" for number in range(40)}, tmp_path / "tmp")
    assert log.read_text().split("\n")[:2] == ["before fsync", "after fsync"]
    assert log.read_text().count("fsync") == 2 and log.read_text().count("before rename") == 40
    assert [path.read_bytes() for path in (tmp_path / "x").iterdir()] == [b"content"] * 40
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("broken", [0, 1, 39], ids=["its own", "a thread's", "after the threads'"])
def test_a_disk_that_fails_is_told_whoever_waited_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    paths = [tmp_path / str(number) for number in range(40)]
    for path in paths:
        path.write_bytes(b"")
    inode, fsync = paths[broken].stat().st_ino, os.fsync

    def failing(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == inode:
            raise OSError(errno.EIO, "input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="input/output error"):
        disk.sync_files(paths)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="the disk is full"):
        disk.put_files({tmp_path / "a": b"a", tmp_path / "b": b"b"}, tmp_path / "tmp")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
