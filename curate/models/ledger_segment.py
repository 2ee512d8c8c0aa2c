"""A segment of the ledger: a file that one process appends records to, and its sorted index.

A file is a header (mark, format, crc, id of the segment), then records: mark, crc, length, whether it holds an answer, key,
payload. The id stays when a file is copied or renamed, so a copy is known for one. What a record's crc does not confirm is
passed over up to the next whole record: at the end of a file it is a torn tail, cut off by a kill or still being written.
An index is a cache of the first so many bytes of its segment. Anybody may write one, and nothing is lost with it.
"""

import os
import struct
import uuid
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curate.errors import StoreError

SUFFIX = ".seg"
FORMAT = 1
FILE_MARK = b"curate\xffL"
FILE_HEAD = struct.Struct("<8sB3xI16s")
MARK = b"\xfe\xffRC"  # bytes that no UTF-8 text holds
HEAD = struct.Struct("<4sIIB3x32s")
AFTER_CRC = 8
INDEX_SUFFIX = ".idx"
INDEX_MARK = b"curate\xffI"
INDEX_HEAD = struct.Struct("<8sB7x16sQQII")
ANSWERED = 1
"""Flag of a record that holds an answer; the others are never looked up."""


class Entry(NamedTuple):
    """Where a record lies."""

    offset: int
    length: int
    """Bytes, its head included."""
    flags: int
    key: bytes


@dataclass
class Found:
    """What a stretch of a segment holds."""

    entries: list[Entry] = field(default_factory=list)
    end: int = 0
    """Offset behind the last whole record; what follows is torn."""
    corrupt: int = 0
    """Damaged stretches between whole records."""


# -- writing


def file_head(identifier: bytes) -> bytes:
    """The header of a new segment."""
    return FILE_HEAD.pack(FILE_MARK, FORMAT, zlib.crc32(bytes([FORMAT]) + identifier), identifier)


def pack(key: bytes, payload: bytes, flags: int) -> bytes:
    """A record as it lies in a segment."""
    head = HEAD.pack(MARK, 0, len(payload), flags, key)
    crc = zlib.crc32(payload, zlib.crc32(head[AFTER_CRC:]))
    return b"".join((MARK, crc.to_bytes(4, "little"), head[AFTER_CRC:], payload))


def payload_of(record: bytes, key: bytes) -> bytes | None:
    """The payload of a record just read; None if it is damaged or another key's."""
    return payload_at(memoryview(record), 0, len(record), key)


def payload_at(block: memoryview, start: int, length: int, key: bytes) -> bytes | None:
    """The same of a record within a block of bytes, which may end too early."""
    end = start + length
    if length < HEAD.size or end > len(block):
        return None
    mark, crc, size, _, found = HEAD.unpack_from(block, start)
    if mark != MARK or found != key or size != length - HEAD.size or zlib.crc32(block[start + AFTER_CRC : end]) != crc:
        return None
    return bytes(block[start + HEAD.size : end])


# -- reading


def identify(path: Path, head: bytes) -> bytes | None:
    """A segment's id from its first bytes; None where there are too few yet. StoreError where a newer version wrote it."""
    if len(head) < FILE_HEAD.size:
        return None
    mark, version, crc, identifier = FILE_HEAD.unpack_from(head)
    if mark != FILE_MARK or crc != zlib.crc32(bytes([version]) + identifier):
        return sha256(head).digest()[:16]  # a damaged header: the records behind it are found by their marks
    if version not in READERS:
        raise StoreError(
            f"{path} is in format {version} of the ledger, and this version of curate reads up to {max(READERS)}: "
            f"update curate (pip install --upgrade curate); the answers in the file are safe"
        )
    return bytes(identifier)


def scan(path: Path, start: int, size: int) -> Found:
    """The records between two offsets; start is 0 or behind a whole record."""
    with path.open("rb") as source:
        head = source.read(FILE_HEAD.size)
        if identify(path, head) is None:
            return Found()  # torn within the header
        source.seek(start)
        data = source.read(max(size - start, 0))
    version = head[len(FILE_MARK)] if head.startswith(FILE_MARK) else FORMAT
    return READERS.get(version, _scan_1)(data, start)


def _scan_1(data: bytes, start: int) -> Found:
    """Records in format 1."""
    found = Found()
    position = FILE_HEAD.size if start == 0 and data.startswith(FILE_MARK) else 0
    while True:
        entry = _whole(data, position)
        if entry is None:
            after = _next_whole(data, position + 1)
            if after is None:
                break
            found.corrupt += 1
            position = after
            continue
        found.entries.append(Entry(start + position, *entry))
        position += entry[0]
    found.end = start + min(position, len(data))
    return found


def _whole(data: bytes, position: int) -> tuple[int, int, bytes] | None:
    """Length, flags and key of the record at a position; None if there is no whole one."""
    if position + HEAD.size > len(data):
        return None
    mark, crc, length, flags, key = HEAD.unpack_from(data, position)
    end = position + HEAD.size + length
    if mark != MARK or end > len(data) or zlib.crc32(memoryview(data)[position + AFTER_CRC : end]) != crc:
        return None
    return HEAD.size + length, flags, key


def _next_whole(data: bytes, position: int) -> int | None:
    while (position := data.find(MARK, position)) >= 0:
        if _whole(data, position) is not None:
            return position
        position += 1
    return None


READERS: dict[int, Callable[[bytes, int], Found]] = {1: _scan_1}
"""How each format of segments is read. A new format adds a line here, and the old ones stay: files are never rewritten."""


# -- the index


class Index(NamedTuple):
    """Where the answers in a segment's first `covered` bytes lie, sorted by the first eight bytes of their keys."""

    covered: int
    corrupt: int
    prefixes: np.ndarray
    """(N,) uint64."""
    offsets: np.ndarray
    """(N,) uint32."""
    lengths: np.ndarray
    """(N,) uint32."""


def prefix(key: bytes) -> int:
    """The part of a key that is sorted by."""
    return int.from_bytes(key[:8], "big")


def index_of(found: Found) -> Index:
    """The index of what was found from a segment's beginning."""
    offsets, lengths, flags, keys = zip(*found.entries, strict=True) if found.entries else ((), (), (), ())
    prefixes = np.frombuffer(b"".join(keys), dtype=">u8")[::4].astype(np.uint64)
    answered = np.flatnonzero(np.array(flags, dtype=np.uint8) & ANSWERED)
    order = answered[np.argsort(prefixes[answered], kind="stable")]
    places = (np.array(column, dtype=np.uint32)[order] for column in (offsets, lengths))
    return Index(found.end, found.corrupt, prefixes[order], *places)


def write_index(segment: Path, identifier: bytes, index: Index) -> None:
    """Keep an index beside its segment. Where that fails, readers scan the segment instead."""
    body = b"".join(part.astype(kind).tobytes() for part, kind in zip(index[2:], ("<u8", "<u4", "<u4"), strict=True))
    head = INDEX_HEAD.pack(INDEX_MARK, FORMAT, identifier, index.covered, len(index.prefixes), index.corrupt, zlib.crc32(body))
    write_beside(segment.with_suffix(INDEX_SUFFIX), head + body)


def read_index(segment: Path, identifier: bytes, size: int) -> Index | None:
    """The index beside a segment; None where there is none that fits."""
    try:
        data = segment.with_suffix(INDEX_SUFFIX).read_bytes()
        mark, version, of, covered, count, corrupt, crc = INDEX_HEAD.unpack_from(data)
    except (OSError, struct.error):
        return None
    body = memoryview(data)[INDEX_HEAD.size :]
    fits = mark == INDEX_MARK and version == FORMAT and of == identifier and covered <= size and len(body) == 16 * count
    if not fits or zlib.crc32(body) != crc:
        return None
    prefixes = np.frombuffer(body[: 8 * count], dtype="<u8")
    offsets = np.frombuffer(body[8 * count : 12 * count], dtype="<u4")
    return Index(covered, corrupt, prefixes, offsets, np.frombuffer(body[12 * count :], dtype="<u4"))


def write_beside(path: Path, content: bytes) -> None:
    """Write a whole cache file by rename, if the disk lets us."""
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with suppress(OSError):
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def segments_in(root: Path) -> list[Path]:
    """The segments of a ledger's folder; none if it is not there."""
    with suppress(FileNotFoundError), os.scandir(root) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.name.endswith(SUFFIX) and _regular(entry))
    return []


def _regular(entry: "os.DirEntry[str]") -> bool:
    return not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)
