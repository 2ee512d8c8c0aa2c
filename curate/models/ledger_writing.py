"""Append records to a segment of this process's own: one write a record, on the disk within a second, no locks on files."""

import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from curate.errors import StoreError
from curate.models import ledger_segment as segment_file
from curate.models.ledger_segment import FILE_HEAD, SUFFIX, Entry

SYNC_SECONDS = 1.0
SEGMENT_BYTES = 64 << 20
"""A segment that is larger is sealed, and the next begun."""


@dataclass
class Growing:
    """A segment being written."""

    path: Path
    descriptor: int
    identifier: bytes
    process: int
    number: int = 0
    """What the reader calls it."""
    entries: list[Entry] = field(default_factory=list)
    size: int = 0


class Syncer(threading.Thread):
    """Calls `sync` within a second of being wanted."""

    def __init__(self, sync: Callable[[], None]) -> None:
        super().__init__(name="curate-ledger", daemon=True)
        self.process = os.getpid()
        self.wanted = threading.Event()
        self._sync = sync
        self._closing = threading.Event()

    def run(self) -> None:
        """Until `end`."""
        while not self._closing.is_set():
            self.wanted.wait()
            if not self._closing.wait(SYNC_SECONDS):
                self.wanted.clear()
                self._sync()

    def end(self) -> None:
        """Stop; whatever is not on the disk yet is left to whoever closes the file."""
        self._closing.set()
        self.wanted.set()
        self.join()


class Writing:
    """The segments that this process writes, one after the other. Safe to use from several threads.

    opened: told of each new segment, returns its number. wrote: told of each record. left: told of a segment that turned out
    to be the parent's, after a fork.
    """

    def __init__(
        self,
        root: Path,
        opened: Callable[[Path], int],
        wrote: Callable[[int, Entry], None],
        left: Callable[[int], None],
        host: str | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.root = root
        # no dot in front: the file would be hidden
        self.host = re.sub(r"[^A-Za-z0-9.]", "_", host or os.uname().nodename).lstrip(".")[:60] or "host"
        self.segment_bytes = segment_bytes
        self._opened, self._wrote, self._left = opened, wrote, left
        self._lock = threading.Lock()
        """Guards what follows; held for a write."""
        self._growing: Growing | None = None
        self._full: list[Growing] = []
        self._dirty = False
        self._problem: OSError | None = None
        self._syncing = threading.Lock()
        """Held by whoever waits for the disk or closes a file."""
        self._syncer: Syncer | None = None

    def append(self, key: bytes, payload: bytes, flags: int) -> None:
        """Write one record. When this returns, the end of this process can do it no harm; a second later, that of the machine."""
        record = segment_file.pack(key, payload, flags)
        with self._lock:
            try:
                growing = self._current()
                entry = Entry(growing.size, len(record), flags, key)
                self._write(growing, record)
            except OSError as error:
                raise self._failed(error) from error
            growing.size += len(record)
            growing.entries.append(entry)
            self._wrote(growing.number, entry)
            if growing.size >= self.segment_bytes:
                self._full.append(growing)
                self._growing = None
            problem, self._problem = self._problem, None
            if not self._dirty:
                self._dirty = True
                self._keep_syncing()
        if problem is not None:
            raise self._failed(problem) from problem

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write to the ledger {self.root}: {error.strerror}. Answers recorded before are safe; "
            f"make room there or mend what is wrong with that place, then run the same command again"
        )

    def _current(self) -> Growing:
        """The segment to write to; a new one where there is none, or where this process was forked from its writer."""
        growing = self._growing
        if growing is not None and growing.process == os.getpid():
            return growing
        if growing is not None:
            os.close(growing.descriptor)
            self._left(growing.number)
        self.root.mkdir(parents=True, exist_ok=True)
        started = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = self.root / f"{self.host}-{os.getpid()}-{started}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._growing = growing = Growing(path, os.open(path, flags, 0o644), uuid.uuid4().bytes, os.getpid())
        growing.number = self._opened(path)
        self._write(growing, segment_file.file_head(growing.identifier))
        growing.size = FILE_HEAD.size
        return growing

    def _write(self, growing: Growing, content: bytes) -> None:
        """All of it, or nothing and the reason."""
        try:
            written = os.write(growing.descriptor, content)
            while written < len(content):  # the disk took a part: the next write says why
                written += os.write(growing.descriptor, content[written:])
        except OSError:
            try:
                os.ftruncate(growing.descriptor, growing.size)
            except OSError:  # what is torn is passed over by readers; nothing is appended to it
                self._full.append(growing)
                self._growing = None
            if not growing.size:
                self._drop(growing)
            raise

    def _drop(self, growing: Growing) -> None:
        """Forget a segment that could not even be begun."""
        if growing in self._full:
            self._full.remove(growing)
        self._growing = None
        os.close(growing.descriptor)
        with suppress(OSError):
            growing.path.unlink()

    # -- onto the disk

    def _keep_syncing(self) -> None:
        """See to it that somebody syncs within a second."""
        if self._syncer is None or self._syncer.process != os.getpid():
            self._syncer = Syncer(self._sync_or_tell)
            self._syncer.start()
        self._syncer.wanted.set()

    def _sync_or_tell(self) -> None:
        try:
            self.sync()
        except OSError as error:
            self._problem = error  # the next who appends is told

    def sync(self) -> None:
        """Wait until all that was appended is on the disk; seal what is full. Raises OSError."""
        with self._syncing:
            with self._lock:
                growing, full, self._full, self._dirty = self._growing, self._full, [], False
            if growing is not None and growing.process == os.getpid():
                os.fsync(growing.descriptor)
            for done in full:
                self._seal(done)

    def _seal(self, growing: Growing) -> None:
        try:
            if growing.process == os.getpid():
                os.fsync(growing.descriptor)
                index = segment_file.index_of(segment_file.Found(growing.entries, growing.size))
                segment_file.write_index(growing.path, growing.identifier, index)
        finally:
            os.close(growing.descriptor)

    def close(self) -> None:
        """Seal what was written. A record that comes later begins a new segment."""
        with self._lock:
            syncer, self._syncer = self._syncer, None
        if syncer is not None and syncer.process == os.getpid():
            syncer.end()
        with self._lock:
            if self._growing is not None:
                self._full.append(self._growing)
                self._growing = None
        try:
            self.sync()
        except OSError as error:
            raise self._failed(error) from error
