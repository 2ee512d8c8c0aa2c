"""Merge, check and export a ledger. None of it changes a segment that is there."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from curate.errors import StoreError, UsageError
from curate.models import ledger_record as record
from curate.models import ledger_segment as segment_file
from curate.models.ledger_segment import ANSWERED, FILE_HEAD
from curate.models.ledger_spent import originals, records

BLOCK = 1 << 20


@dataclass(frozen=True)
class Merged:
    """What was taken over from another ledger."""

    copied: int
    """Segments that were not here, or not all of them."""
    present: int
    """Segments that were."""
    bytes: int


@dataclass(frozen=True)
class Checked:
    """What a look at every byte of a ledger found."""

    segments: int
    records: int
    answers: int
    bytes: int
    torn: dict[str, int]
    """Bytes behind the last whole record, by file: cut off by a kill, or being written right now. No answer is lost with them."""
    corrupt: dict[str, int]
    """Damaged stretches, by file; each was at least one record, and is asked again when it is needed."""


def ledger_of(place: Path) -> Path:
    """The ledger of a store, or a ledger's folder itself."""
    root = place / "ledger" if (place / "ledger").is_dir() else place
    if not segment_file.segments_in(root):
        raise UsageError(
            f"{place} is neither a store with a ledger nor a ledger's folder: no {segment_file.SUFFIX} file is in it"
        )
    return root


def merge(root: Path, other: Path) -> Merged:
    """Copy the segments of another ledger that are not here. Both stay usable all the while."""
    theirs = originals(other)  # raises before anything is copied if one is in a newer format
    copied = present = size = 0
    with _explained(root):
        root.mkdir(parents=True, exist_ok=True)
        for path, identifier, length in theirs:
            ours = [segment for segment, known, _ in _all(root) if known == identifier]
            if any(_begins_with(here, path, length) for here in ours):
                present += 1
                continue
            shorter = [here for here in ours if _begins_with(path, here, here.stat().st_size)]
            _copy(path, length, shorter[0] if shorter else _free_name(root, path.name))
            copied, size = copied + 1, size + length
    return Merged(copied, present, size)


def _all(root: Path) -> Iterator[tuple[Path, bytes | None, int]]:
    for path in segment_file.segments_in(root):
        with path.open("rb") as source:
            yield path, segment_file.identify(path, source.read(FILE_HEAD.size)), path.stat().st_size


def _begins_with(whole: Path, part: Path, length: int) -> bool:
    """Whether a file's first bytes are another's."""
    if whole.stat().st_size < length:
        return False
    with whole.open("rb") as one, part.open("rb") as other:
        while length > 0:
            step = min(BLOCK, length)
            if one.read(step) != other.read(step):
                return False
            length -= step
    return True


def _free_name(root: Path, name: str) -> Path:
    path = root / name
    return root / f"{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}" if path.exists() else path


def _copy(source: Path, length: int, target: Path) -> None:
    """Copy a file's first bytes; readers see all of them or none."""
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    try:
        with source.open("rb") as read, temporary.open("wb") as written:
            while length > 0 and (block := read.read(min(BLOCK, length))):
                written.write(block)
                length -= len(block)
            written.flush()
            os.fsync(written.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {place}: {error.strerror}; what is there is whole, so the command can be repeated"
        ) from error


def check(root: Path) -> Checked:
    """Read every byte."""
    torn: dict[str, int] = {}
    corrupt: dict[str, int] = {}
    segments = count = answers = size = 0
    for path in segment_file.segments_in(root):
        length = path.stat().st_size
        found = segment_file.scan(path, 0, length)
        segments, count, size = segments + 1, count + len(found.entries), size + length
        answers += sum(1 for entry in found.entries if entry.flags & ANSWERED)
        if found.end < length:
            torn[path.name] = length - found.end
        if found.corrupt:
            corrupt[path.name] = found.corrupt
    return Checked(segments, count, answers, size, torn, corrupt)


def export(root: Path, out: Path) -> int:
    """Write every record as a line of JSON, compressed where the name ends in .zst; how many. The file is whole or absent."""
    if not out.name.endswith((".jsonl", ".jsonl.zst")):
        raise UsageError(f"--export writes .jsonl or .jsonl.zst, got {str(out)!r}")
    temporary = out.with_name(f".{out.name}-{uuid.uuid4().hex}")
    with _explained(out):
        try:
            with temporary.open("wb") as plain:
                count = _export_compressed(root, plain) if out.suffix == ".zst" else _export(root, plain)
            os.replace(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)
    return count


def _export_compressed(root: Path, plain: IO[bytes]) -> int:
    with zstandard.ZstdCompressor(level=3).stream_writer(plain, closefd=False) as packed:
        return _export(root, packed)


def _export(root: Path, written: IO[bytes]) -> int:
    count = 0
    for path, _, size in originals(root):
        for entry, payload in records(path, segment_file.scan(path, 0, size).entries):
            try:
                told = record.document(entry.key.hex(), payload)
            except (ValueError, KeyError, TypeError):
                continue
            written.write(record.json_line(told) + b"\n")
            count += 1
    return count
