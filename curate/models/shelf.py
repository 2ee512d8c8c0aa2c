"""Vectors that were computed once, such as embeddings and rewards, by what they are of: sorted keys beside a matrix.

A shelf is a folder of parts. A part is written whole and never changed; small ones are merged into larger ones on the way. Any
number of processes may put and get at once: a part appears by a rename, and is taken away only after what replaces it is there.
"""

import json
import os
import struct
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate.errors import StoreError
from curate.store import disk

MARK = b"curate\xffV"
FORMAT = 1
HEAD = struct.Struct("<8sI")
"""Mark, bytes of the JSON description that follows; behind it, from a multiple of 64, the keys and then the matrix."""
SUFFIX = ".vec"
KEY_BYTES = 16
"""Half of a sha256: two keys that share it are not to be expected below 10^18."""
MANY_PARTS = 16
"""Parts of about one size that are merged into one."""


@dataclass(frozen=True)
class Part:
    """Some rows, sorted by the first half of their keys."""

    path: Path
    first: np.ndarray
    """(N,) uint64, sorted."""
    second: np.ndarray
    """(N,) uint64."""
    matrix: np.ndarray
    """(N, D), read from the disk as needed."""


class VectorShelf:
    """Rows of numbers by key, all of one width. Safe to use from several threads and processes.

    name: what kind of rows, and of which model: a folder below `root`. Rows are float32 or float16, as they were put.
    """

    def __init__(self, root: Path, name: str) -> None:
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise ValueError(f"{name!r} is no name for a shelf")
        self.folder = root / name
        self._parts: dict[str, Part] = {}
        self._lock = threading.Lock()

    def put(self, keys: Sequence[str], matrix: np.ndarray) -> None:
        """Keep rows. keys: sha256, 64 hex digits (32 will do), one a row. Where a key is there already, either row is right."""
        rows = np.asarray(matrix)
        if rows.ndim != 2 or len(rows) != len(keys) or rows.dtype not in (np.float32, np.float16):
            raise ValueError(f"{len(keys)} keys need a float32 or float16 matrix with a row each, got {rows.dtype} {rows.shape}")
        if not len(keys):
            return
        first, second = _halves(keys)
        order = np.argsort(first, kind="stable")
        with self._lock:
            self._refresh()
            width = next((part.matrix.shape[1] for part in self._parts.values()), rows.shape[1])
            if width != rows.shape[1]:
                raise StoreError(f"{self.folder} holds rows of {width} numbers, not of {rows.shape[1]}: is it another model's?")
            self._write(first[order], second[order], rows[order])
            self._merge()

    def get(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(rows, found): a row for each key, NaN where there is none, and whether there is one. (N, 0) of an empty shelf."""
        first, second = _halves(keys)
        with self._lock:
            self._refresh()
            parts = list(self._parts.values())
        width = parts[0].matrix.shape[1] if parts else 0
        kind = np.result_type(np.float16, *(part.matrix.dtype for part in parts)) if parts else np.dtype(np.float32)
        rows = np.full((len(keys), width), np.nan, kind)
        found = np.zeros(len(keys), bool)
        for part in parts:
            left = np.flatnonzero(~found)
            here = np.searchsorted(part.first, first[left])
            inside = here < len(part.first)
            left, here = left[inside], here[inside]
            same = (part.first[here] == first[left]) & (part.second[here] == second[left])
            rows[left[same]] = part.matrix[here[same]]
            found[left[same]] = True
        return rows, found

    def __len__(self) -> int:
        """Rows, those put twice counted twice until they are merged."""
        with self._lock:
            self._refresh()
            return sum(len(part.first) for part in self._parts.values())

    # -- parts

    def _refresh(self) -> None:
        """Open parts that are new, forget those that were merged."""
        for _ in range(10):  # a part listed may be merged away before it is opened: then its successor is there
            names = self._names()
            known = {name: part for name, part in self._parts.items() if name in names}
            try:
                self._parts = known | {name: _open(self.folder / name) for name in sorted(names - known.keys())}
            except FileNotFoundError:
                continue
            return
        raise StoreError(f"the parts of {self.folder} change faster than they can be read")

    def _names(self) -> set[str]:
        try:
            return {name for name in os.listdir(self.folder) if name.endswith(SUFFIX) and not name.startswith(".")}
        except FileNotFoundError:
            return set()

    def _write(self, first: np.ndarray, second: np.ndarray, rows: np.ndarray) -> Path:
        about = json.dumps({"format": FORMAT, "rows": len(rows), "width": rows.shape[1], "dtype": rows.dtype.str}).encode()
        head = HEAD.pack(MARK, len(about)) + about
        name = f"{uuid.uuid4().hex}{SUFFIX}"
        temporary, path = self.folder / f".{name}", self.folder / name
        try:
            with disk.explain(self.folder):
                disk.make_folder(self.folder)
                with temporary.open("wb") as out:
                    out.write(head + b"\0" * (-len(head) % 64))
                    for block in (first.astype("<u8"), second.astype("<u8"), rows):
                        out.write(np.ascontiguousarray(block).data)
                disk.sync_file(temporary)
                disk.rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        self._parts[name] = _open(path)
        return path

    def _merge(self) -> None:
        """Where there are many small parts, make one of them: each row is written a few times, however many parts there are."""
        parts = sorted(self._parts.values(), key=lambda part: len(part.first))
        for count in range(len(parts), MANY_PARTS - 1, -1):
            if len(parts[count - 1].first) * MANY_PARTS <= sum(len(part.first) for part in parts[:count]) * 4:
                self._merge_all(parts[:count])
                return

    def _merge_all(self, parts: Sequence[Part]) -> None:
        first = np.concatenate([part.first for part in parts])
        second = np.concatenate([part.second for part in parts])
        order = np.lexsort((second, first))
        again = np.r_[False, (np.diff(first[order]) == 0) & (np.diff(second[order]) == 0)]
        order = order[~again]
        rows = np.concatenate([part.matrix for part in parts])[order]
        self._write(first[order], second[order], rows)
        for part in parts:
            self._parts.pop(part.path.name, None)
            with suppress(OSError):
                part.path.unlink()


def _halves(keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The first two times 64 bits of each key."""
    try:
        short = b"".join(bytes.fromhex(key[: 2 * KEY_BYTES]) for key in keys)
    except ValueError as error:
        raise ValueError(f"keys of a shelf are sha256 digests in hex: {error}") from error
    if len(short) != KEY_BYTES * len(keys):
        raise ValueError(f"keys of a shelf have at least {2 * KEY_BYTES} hex digits")
    halves = np.frombuffer(short, ">u8").astype(np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1]


def _open(path: Path) -> Part:
    """A part, its matrix mapped."""
    with path.open("rb") as source:
        head = source.read(HEAD.size)
        size = os.fstat(source.fileno()).st_size
        try:
            mark, length = HEAD.unpack(head)
            if mark != MARK:
                raise ValueError("it is no part of a shelf")
            about = json.loads(source.read(length))
            rows, width, kind = about["rows"], about["width"], np.dtype(about["dtype"])
            start = -(-(HEAD.size + length) // 64) * 64
            if about["format"] > FORMAT:
                raise ValueError("a newer version of curate wrote it; update curate")
            if kind.kind != "f" or size != start + rows * (2 * 8 + width * kind.itemsize):
                raise ValueError("it was cut short or changed")
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise StoreError(f"{path} cannot be used: {error}. What it holds can be computed again without it") from error
        first = np.fromfile(source, "<u8", rows, offset=start - source.tell())
        second = np.fromfile(source, "<u8", rows)
        matrix = np.memmap(source, kind, "r", source.tell(), (rows, width)) if width else np.empty((rows, 0), kind)
    return Part(path, first.astype(np.uint64), second.astype(np.uint64), matrix)
