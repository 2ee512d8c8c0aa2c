"""Numbers that were computed once, such as embeddings and rewards, by what they are of: sorted keys beside a matrix.

A shelf is a folder of parts. A part is written whole, appears by a rename and is never changed. Small parts are merged into
larger ones by one process at a time; a part that was merged stays a while for those who still read it, and is passed over by
all others, because its successor names it. A part that is damaged is passed over too: its rows are computed again.
"""

import fcntl
import json
import os
import struct
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

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
ROWS_AT_ONCE = 65_536  # gathered in memory while parts are merged
GRACE_SECONDS = 3600.0
"""How long a merged part stays for those who listed it and have yet to open it."""


@dataclass(frozen=True)
class Part:
    """Some rows, sorted by the first half of their keys."""

    path: Path
    keys: np.ndarray
    """(2, N) uint64: the first halves, sorted, and the second ones."""
    matrix: np.ndarray
    """(N, D), read from the disk as needed."""
    replaces: frozenset[str]
    """Names of the parts whose rows it holds."""

    def __len__(self) -> int:
        return int(self.keys.shape[1])


class VectorShelf:
    """Rows of numbers by key, all of one width. Safe to use from several threads and processes.

    name: what kind of rows, and of which model: a folder below `root`. Rows are float32 or float16, as they were put.
    """

    def __init__(self, root: Path, name: str) -> None:
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise ValueError(f"{name!r} is no name for a shelf")
        self.folder = root / name
        self._parts: dict[str, Part] = {}
        self._passed_over: set[str] = set()
        self._lock = threading.Lock()

    def put(self, keys: Sequence[bytes], matrix: np.ndarray) -> None:
        """Keep rows. keys: 16 bytes each, one a row. Rows with NaN are left out; where a key is there, either row is right."""
        rows = np.asarray(matrix)
        if rows.ndim != 2 or len(rows) != len(keys) or rows.dtype not in (np.float32, np.float16):
            raise ValueError(f"{len(keys)} keys need a float32 or float16 matrix with a row each, got {rows.dtype} {rows.shape}")
        halves = _halves(keys)
        whole = np.flatnonzero(~np.isnan(rows).any(axis=1))
        order = whole[np.lexsort((halves[1, whole], halves[0, whole]))]
        if not len(order):
            return
        with self._lock:
            self._refresh()
            width = next((part.matrix.shape[1] for part in self._parts.values()), rows.shape[1])
            if width != rows.shape[1]:
                raise StoreError(f"{self.folder} holds rows of {width} numbers, not of {rows.shape[1]}: is it another model's?")
            self._write(halves[:, order], [rows[order]], rows, ())
            self._merge()

    def get(self, keys: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """(rows, found): a row for each key, NaN where there is none, and whether there is one. (N, 0) of an empty shelf."""
        halves = _halves(keys)
        with self._lock:
            self._refresh()
            parts = sorted(self._parts.values(), key=len, reverse=True)
        width = parts[0].matrix.shape[1] if parts else 0
        kind = np.result_type(*(part.matrix.dtype for part in parts)) if parts else np.dtype(np.float32)
        rows = np.full((len(keys), width), np.nan, kind)
        found = np.zeros(len(keys), bool)
        for part in parts:
            left = np.flatnonzero(~found)
            if not len(left):
                break
            here = np.searchsorted(part.keys[0], halves[0, left])
            left, here = left[here < len(part)], here[here < len(part)]
            same = (part.keys[:, here] == halves[:, left]).all(axis=0)
            rows[left[same]] = part.matrix[here[same]]
            found[left[same]] = True
        return rows, found

    def __len__(self) -> int:
        """Rows, those put twice counted twice until they are merged."""
        with self._lock:
            self._refresh()
            return sum(map(len, self._parts.values()))

    # -- parts

    def _refresh(self) -> None:
        """Open parts that are new, forget those that were merged."""
        while True:  # a part may be taken away between being listed and opened: then its successor is in the next list
            names = self._names() - self._passed_over
            try:
                opened = {name: self._parts.get(name) or _open(self.folder / name) for name in sorted(names)}
            except FileNotFoundError:
                continue
            self._passed_over |= {name for name, part in opened.items() if part is None}
            parts = {name: part for name, part in opened.items() if part is not None}
            merged = frozenset().union(*(part.replaces for part in parts.values()))
            self._parts = {name: part for name, part in parts.items() if name not in merged}
            return

    def _names(self) -> set[str]:
        try:
            return {name for name in os.listdir(self.folder) if name.endswith(SUFFIX) and not name.startswith(".")}
        except FileNotFoundError:
            return set()

    def _write(self, keys: np.ndarray, blocks: Iterable[np.ndarray], like: np.ndarray, replaces: Sequence[str]) -> None:
        """Write a part. blocks: its rows in order, a part of them at a time; like: rows of their width and type."""
        stored = np.ascontiguousarray(keys, "<u8")
        about = {"format": FORMAT, "rows": keys.shape[1], "width": like.shape[1], "dtype": like.dtype.str}
        told = json.dumps(about | {"keys": xxhash.xxh3_64_hexdigest(stored.data), "replaces": sorted(replaces)}).encode()
        head = HEAD.pack(MARK, len(told)) + told
        name = f"{uuid.uuid4().hex}{SUFFIX}"
        temporary, path = self.folder / f".{name}", self.folder / name
        with disk.explain(self.folder):
            disk.make_folder(self.folder)
            try:
                with temporary.open("wb") as out:
                    out.write(head + b"\0" * (-len(head) % 64))
                    out.write(stored.data)
                    for block in blocks:
                        out.write(np.ascontiguousarray(block, like.dtype).data)
                disk.sync_file(temporary)
                disk.rename(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        part = _open(path)
        if part is None:
            raise StoreError(f"{path} was written and cannot be read back: the disk may be failing")
        self._parts[name] = part

    def _merge(self) -> None:
        """Where there are many small parts, make one of them: each row is written a few times, however many parts there are."""
        if len(self._parts) < MANY_PARTS:
            return
        with _alone(self.folder) as alone:
            if not alone:
                return  # another process is at it
            self._refresh()
            self._take_away()
            parts = sorted(self._parts.values(), key=len)
            for count in range(len(parts), MANY_PARTS - 1, -1):
                if len(parts[count - 1]) * MANY_PARTS <= sum(map(len, parts[:count])) * 4:
                    self._merge_all(parts[:count])
                    return

    def _merge_all(self, parts: Sequence[Part]) -> None:
        keys = np.concatenate([part.keys for part in parts], axis=1)
        order = np.lexsort((keys[1], keys[0]))
        order = order[np.r_[True, (np.diff(keys[:, order].view(np.int64)) != 0).any(axis=0)]]
        like = np.empty((0, parts[0].matrix.shape[1]), np.result_type(*(part.matrix.dtype for part in parts)))
        there = self._names()
        replaces = {part.path.name for part in parts}.union(*(part.replaces & there for part in parts))
        self._write(keys[:, order], _gathered(parts, order), like, sorted(replaces))
        for part in parts:
            self._parts.pop(part.path.name, None)

    def _take_away(self) -> None:
        """Remove what was merged, or left half-written by a process that died, long enough ago."""
        for path in self.folder.iterdir():
            name = path.name
            stale = name.endswith(SUFFIX) and name not in self._parts and name not in self._passed_over
            if not stale:
                continue
            successor = next((part.path for part in self._parts.values() if name in part.replaces), path)
            with suppress(OSError):
                if time.time() - successor.stat().st_mtime > GRACE_SECONDS:
                    path.unlink()


def _gathered(parts: Sequence[Part], order: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of all parts, put behind each other, in an order; ROWS_AT_ONCE at a time."""
    starts = np.cumsum([0, *map(len, parts)])
    for begin in range(0, len(order), ROWS_AT_ONCE):
        wanted = order[begin : begin + ROWS_AT_ONCE]
        part_of = np.searchsorted(starts, wanted, side="right") - 1
        rows = np.empty((len(wanted), parts[0].matrix.shape[1]), np.result_type(*(part.matrix.dtype for part in parts)))
        for number in np.unique(part_of):
            mine = part_of == number
            rows[mine] = parts[number].matrix[wanted[mine] - starts[number]]
        yield rows


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether this process may merge: it holds the folder's lock while within; on a disk without locks nobody may."""
    with (folder / ".merging").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _halves(keys: Sequence[bytes]) -> np.ndarray:
    """The two times 64 bits of each key, (2, N) uint64."""
    joined = b"".join(keys)
    if any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"keys of a shelf have {KEY_BYTES} bytes")
    return np.ascontiguousarray(np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2).T)


def _open(path: Path) -> Part | None:
    """A part, mapped; None if it was cut short, changed, or is of a newer version. Raises FileNotFoundError if it is gone."""
    with path.open("rb") as source:
        try:
            mark, length = HEAD.unpack(source.read(HEAD.size))
            about = json.loads(source.read(length))
            rows, width, kind = int(about["rows"]), int(about["width"]), np.dtype(about["dtype"])
            start = -(-(HEAD.size + length) // 64) * 64
            right = mark == MARK and about["format"] == FORMAT and kind in (np.float16, np.float32) and rows > 0 and width > 0
            if not right or os.fstat(source.fileno()).st_size != start + rows * (KEY_BYTES + width * kind.itemsize):
                return None
            keys = np.memmap(source, "<u8", "r", start, (2, rows))
            if xxhash.xxh3_64_hexdigest(np.ascontiguousarray(keys).data) != about["keys"]:
                return None
            matrix = np.memmap(source, kind, "r", start + rows * KEY_BYTES, (rows, width))
            return Part(path, keys, matrix, frozenset(about["replaces"]))
        except (ValueError, KeyError, TypeError, struct.error):
            return None
