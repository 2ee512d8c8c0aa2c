"""What all segments of a ledger hold together, kept up while they grow: where each answer lies, and how to read it."""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate.errors import StoreError
from curate.models import ledger_segment as segment_file
from curate.models.ledger_segment import ANSWERED, FILE_HEAD, Entry, Index, prefix

RECENT = 65_536
"""Answers kept in a dictionary before they are sorted in with the others."""
INDEX_AFTER = 1 << 20
"""Bytes scanned without an index that are worth writing one."""
GAP = 4096
"""Bytes between two answers that are read along rather than passed over."""
STRETCH = 1 << 20
"""Bytes read at once, unless a single answer is longer."""
OPEN_FILES = 128
STILL_SECONDS = 60.0
"""A torn tail that is older is nobody's any more."""

Place = tuple[int, int, int]
"""Number of a segment, offset, length."""
Wanted = tuple[int, int, int, int]
"""A place, and which of the keys that are looked for it may hold."""


class Places:
    """Where answers lie by the first eight bytes of their keys: sorted arrays, 20 bytes an answer, and what came lately."""

    def __init__(self) -> None:
        self._prefixes = np.empty(0, np.uint64)
        self._places = np.empty((0, 3), np.uint32)
        self._recent: dict[int, list[Place]] = {}
        self._recent_count = 0

    def __len__(self) -> int:
        return len(self._prefixes) + self._recent_count

    def add(self, key_prefix: int, place: Place) -> None:
        """One answer."""
        self._recent.setdefault(key_prefix, []).append(place)
        self._recent_count += 1
        if self._recent_count >= RECENT:
            self._sort_in([])

    def add_all(self, indexes: Sequence[tuple[int, Index]]) -> None:
        """Whole segments, by their numbers."""
        if sum(len(index.prefixes) for _, index in indexes) > 1000:
            self._sort_in(indexes)
            return
        for number, index in indexes:
            for row in zip(index.prefixes.tolist(), index.offsets.tolist(), index.lengths.tolist(), strict=True):
                self.add(row[0], (number, row[1], row[2]))

    def _sort_in(self, indexes: Sequence[tuple[int, Index]]) -> None:
        """Make one sorted array of all."""
        recent = [(key_prefix, place) for key_prefix, places in self._recent.items() for place in places]
        prefixes = [self._prefixes, np.array([key_prefix for key_prefix, _ in recent], np.uint64)]
        places = [self._places, np.array([place for _, place in recent], np.uint32).reshape(-1, 3)]
        for number, index in indexes:
            prefixes.append(index.prefixes)
            numbers = np.full(len(index.prefixes), number, np.uint32)
            places.append(np.stack([numbers, index.offsets, index.lengths], axis=1))
        joined = np.concatenate(prefixes)
        order = np.argsort(joined, kind="stable")
        self._prefixes, self._places = joined[order], np.concatenate(places)[order]
        self._recent, self._recent_count = {}, 0

    def find(self, keys: Sequence[bytes]) -> list[list[Place]]:
        """The places where an answer to each key may lie."""
        found: list[list[Place]] = [[] for _ in keys]
        for number, offset, length, row in self.in_order(keys):
            found[row].append((number, offset, length))
        return found

    def in_order(self, keys: Sequence[bytes]) -> list[Wanted]:
        """The same in the order they lie in."""
        wanted = np.frombuffer(b"".join(key[:8].ljust(8, b"\0") for key in keys), ">u8").astype(np.uint64)
        low = np.searchsorted(self._prefixes, wanted, "left")
        many = np.searchsorted(self._prefixes, wanted, "right") - low
        rows = np.repeat(np.arange(len(keys)), many)
        behind = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)  # 0, 1, ... among those of one key
        places = self._places[low[rows] + behind]
        order = np.lexsort((places[:, 1], places[:, 0]))
        found = list(zip(*places[order].T.tolist(), rows[order].tolist(), strict=True))
        if not self._recent:
            return found
        for row, key_prefix in enumerate(wanted.tolist()):
            if key_prefix in self._recent:
                found += [(*place, row) for place in self._recent[key_prefix]]
        return sorted(found)


class OpenFile:
    """A file descriptor that lives as long as anybody holds it."""

    __slots__ = ("descriptor",)

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self.descriptor)


@dataclass
class Segment:
    """A segment as far as it was read."""

    path: Path
    identifier: bytes | None = None
    inode: int = 0
    size: int = 0
    covered: int = 0
    corrupt: int = 0

    @property
    def torn(self) -> int:
        """Bytes behind the last whole record."""
        return self.size - self.covered


def stretches(wanted: Sequence[Wanted]) -> Iterator[tuple[int, Sequence[Wanted]]]:
    """Sorted places, cut into those that one read brings: (number of the segment, places)."""
    start = 0
    for end, (number, offset, length, _) in enumerate(wanted):
        first, before = wanted[start], wanted[end - 1]
        apart = end > start and (
            number != first[0] or offset - before[1] - before[2] > GAP or offset + length - first[1] > STRETCH
        )
        if apart:
            yield first[0], wanted[start:end]
            start = end
    if wanted:
        yield wanted[start][0], wanted[start:]


class Reading:
    """All segments of a folder. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = Places()
        self.segments: list[Segment] = []
        self._numbers: dict[str, int] = {}
        self._own: set[int] = set()
        self._open: OrderedDict[int, OpenFile] = OrderedDict()
        self._lock = threading.Lock()
        """Guards places, segments and open files; held for moments only."""
        self._refreshing = threading.Lock()

    # -- keeping up

    def refresh(self) -> None:
        """Take in what was written since, by whatever process. StoreError where a newer version of curate wrote it."""
        with self._refreshing:
            fresh: list[tuple[int, Index]] = []
            try:
                for path in segment_file.segments_in(self.root):
                    with self._lock:
                        number = self._numbers.get(path.name)
                        number = self._new(path) if number is None else number
                    if number not in self._own:
                        fresh += [(number, index) for index in self._read_on(number)]
            finally:  # what was read counts, whatever came after it
                with self._lock:
                    self.places.add_all(fresh)

    def _new(self, path: Path) -> int:
        self._numbers[path.name] = len(self.segments)
        self.segments.append(Segment(path))
        return len(self.segments) - 1

    def _read_on(self, number: int) -> list[Index]:
        """What is new in a segment."""
        segment = self.segments[number]
        try:
            status = segment.path.stat()
            if status.st_ino != segment.inode:
                with self._lock:
                    self._open.pop(number, None)
            elif status.st_size == segment.size and (not segment.torn or status.st_mtime < time.time() - STILL_SECONDS):
                return []
            found = self._grown(segment, status.st_size)
        except FileNotFoundError:  # taken away meanwhile
            return []
        except OSError as error:
            raise StoreError(f"cannot read {segment.path}, which holds answers that were paid for: {error.strerror}") from error
        segment.inode, segment.size = status.st_ino, status.st_size
        return found

    def _grown(self, segment: Segment, size: int) -> list[Index]:
        """The index of a segment seen first, and of what is behind what is covered."""
        found = []
        if segment.identifier is None:
            with segment.path.open("rb") as source:
                segment.identifier = segment_file.identify(segment.path, source.read(FILE_HEAD.size))
            if segment.identifier is None:
                return []
            index = segment_file.read_index(segment.path, segment.identifier, size)
            if size - (index.covered if index else 0) > INDEX_AFTER:
                index = segment_file.index_of(segment_file.scan(segment.path, 0, size))
                segment_file.write_index(segment.path, segment.identifier, index)
            if index is not None:
                segment.covered, segment.corrupt = index.covered, index.corrupt
                found.append(index)
        if segment.covered < size:
            index = segment_file.index_of(segment_file.scan(segment.path, segment.covered, size))
            segment.covered, segment.corrupt = index.covered, segment.corrupt + index.corrupt
            found.append(index)
        return found

    def own(self, path: Path) -> int:
        """Number of a segment that this process writes: what is in it is told by `wrote`, and needs no scan."""
        with self._lock:
            number = self._numbers.get(path.name)
            number = self._new(path) if number is None else number
            self._own.add(number)
            return number

    def disown(self, number: int) -> None:
        """From now on a segment is read like any other: the process that writes it is this one's parent."""
        with self._lock:
            self._own.discard(number)

    def wrote(self, number: int, entry: Entry) -> None:
        """A record was appended to an own segment."""
        with self._lock:
            segment = self.segments[number]
            segment.covered = segment.size = entry.offset + entry.length
            if entry.flags & ANSWERED:
                self.places.add(prefix(entry.key), (number, entry.offset, entry.length))

    # -- looking up

    def payloads(self, keys: Sequence[bytes]) -> list[list[bytes]]:
        """The payloads of all whole answers to each key. Damaged ones are left out."""
        with self._lock:
            wanted = self.places.in_order(keys)
        found: list[list[bytes]] = [[] for _ in keys]
        for number, stretch in stretches(wanted):
            opened = self._opened(number)
            if opened is None:
                continue
            start, last = stretch[0][1], stretch[-1]
            block = memoryview(os.pread(opened.descriptor, last[1] + last[2] - start, start))
            for _, offset, length, row in stretch:
                payload = segment_file.payload_at(block, offset - start, length, keys[row])
                if payload is not None:
                    found[row].append(payload)
        return found

    def _opened(self, number: int) -> OpenFile | None:
        """A segment's file; None if it is gone."""
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
        try:
            opened = OpenFile(self.segments[number].path)
        except FileNotFoundError:
            return None
        with self._lock:
            self._open[number] = opened
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return opened

    def close(self) -> None:
        """Close files; they are opened again when needed."""
        with self._lock:
            self._open.clear()
