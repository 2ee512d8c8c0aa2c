"""Sort rows by prompt into shards of bounded size, on disk and in bounded memory.

Rows that are more than a shard are spilled into buckets by the leading bits of `prompt_id`, then each bucket is sorted by
prompt and source position and cut into shards. Order and cuts depend on the rows alone, not on their order or the number
of buckets.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import DataError
from curate.ids import ID_DIGITS
from curate.tables import bare

BITS = 4  # 16 buckets at each level: pieces stay large enough to be written and read at full speed
KEY_BITS = 64  # leading bits of an id that buckets may use; what they leave together is told apart when sorted
NIBBLE = np.full(256, 255, np.uint8)
NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


class Keys(NamedTuple):
    """The two halves of each row's prompt_id, (N,) uint64 each."""

    high: np.ndarray
    low: np.ndarray


def partition(batches: Iterable[pa.Table], scratch: Path, shard_bytes: int, bits: int = BITS) -> Iterator[pa.Table]:
    """Shards in the order of prompt_id, rows of a prompt in the order of `row`; a prompt is never split.

    shard_bytes: most bytes of a shard, measured by `row_bytes`; a prompt larger than that is a shard of its own.
    bits: leading bits told apart at each level, so 2**bits buckets; it changes speed, never the shards.
    Memory stays at a few times shard_bytes, or the largest prompt. The folder made in scratch is removed at the end.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="partition-"))
    try:
        rest = iter(batches)
        begun, size = _begun(rest, shard_bytes)
        if size <= shard_bytes:
            yield from cut(_sorted_whole(begun), shard_bytes)
            return
        spilled = spill(chain(begun, rest), folder, 0, bits, shard_bytes)
        del begun
        yield from cut(_sorted_tables(spilled, bits, shard_bytes), shard_bytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _begun(tables: Iterator[pa.Table], most: int) -> tuple[list[pa.Table], int]:
    """The first tables, until they have more than `most` bytes or there are no more, and their size."""
    begun: list[pa.Table] = []
    size = 0
    for table in tables:
        if table.num_rows:
            begun.append(table)
            size += int(row_bytes(table).sum())
        if size > most:
            break
    return begun, size


def _sorted_whole(tables: list[pa.Table]) -> Iterator[pa.Table]:
    """Rows that fit into memory together, sorted: nothing is spilled for them."""
    if tables:
        yield sort(_joined(tables))[0]


class Bucket:
    """Rows of one range of prompt ids in a spill file: sorted pieces, each an Arrow stream of its own."""

    def __init__(self, path: Path, depth: int) -> None:
        self.path, self.depth = path, depth
        self.bytes = 0
        self.low, self.high = 2**KEY_BITS, -1
        self._file: pa.NativeFile | None = None
        self._starts: list[int] = []

    def add(self, piece: pa.Table, keys: np.ndarray, size: int) -> None:
        """Write a sorted piece; keys are its leading halves."""
        if self._file is None:
            self._file = pa.OSFile(str(self.path), "wb")
        self._starts.append(self._file.tell())
        with pa.ipc.new_stream(
            self._file, piece.schema, options=pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        ) as writer:
            writer.write_table(piece)
        self.bytes += size
        self.low, self.high = min(self.low, int(keys[0])), max(self.high, int(keys[-1]))

    def close(self) -> None:
        """End the writing."""
        if self._file is not None:
            self._file.close()

    def pieces(self) -> Iterator[pa.Table]:
        """The pieces as they were written; the file is removed after the last."""
        with pa.OSFile(str(self.path), "rb") as file:
            for start in self._starts:
                file.seek(start)
                yield pa.ipc.open_stream(file).read_all()
        self.path.unlink()


def spill(tables: Iterable[pa.Table], folder: Path, depth: int, bits: int, shard_bytes: int) -> list[Bucket]:
    """The rows in buckets by the bits from `depth` on, in the order of their ids; empty buckets are left out."""
    folder.mkdir(exist_ok=True)
    buckets: dict[int, Bucket] = {}
    for table, size in _gathered(tables, max(shard_bytes // 2, 1)):
        table, keys = sort(table)
        places = ((keys.high << np.uint64(depth)) >> np.uint64(KEY_BITS - bits)) if bits else np.zeros(len(keys.high), np.uint64)
        starts = np.flatnonzero(np.concatenate([[True], places[1:] != places[:-1]]))
        # a piece of a sorted table that spans few ids: it is contiguous, because the ids above `depth` are shared
        for start, end in zip(starts, [*starts[1:], len(places)], strict=True):
            place = int(places[start])
            bucket = buckets.setdefault(place, Bucket(folder / f"{place:04x}.spill", depth + bits))
            piece = table.slice(int(start), int(end - start))
            bucket.add(piece, keys.high[start:end], round(size * (end - start) / len(places)))
    for bucket in buckets.values():
        bucket.close()
    return [buckets[place] for place in sorted(buckets)]


def _gathered(tables: Iterable[pa.Table], least: int) -> Iterator[tuple[pa.Table, int]]:
    """Tables joined until they have `least` bytes, each with its size."""
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        if not table.num_rows:
            continue
        waiting.append(table)
        size += int(row_bytes(table).sum())
        if size >= least:
            yield _joined(waiting), size
            waiting, size = [], 0
    if waiting:
        yield _joined(waiting), size


def _joined(tables: list[pa.Table]) -> pa.Table:
    return (pa.concat_tables(tables) if len(tables) > 1 else tables[0]).combine_chunks()


def _sorted_tables(buckets: list[Bucket], bits: int, shard_bytes: int) -> Iterator[pa.Table]:
    """Each bucket's rows, sorted; one that is too large is spilled again by further bits."""
    for bucket in buckets:
        if bucket.bytes > shard_bytes and bucket.low != bucket.high:
            # the bits all its ids share need no level of their own
            shared = KEY_BITS - (bucket.low ^ bucket.high).bit_length()
            width = min(max(bits, 1), KEY_BITS - shared)
            deeper = spill(bucket.pieces(), bucket.path.with_suffix(""), shared, width, shard_bytes)
            yield from _sorted_tables(deeper, bits, shard_bytes)
        else:
            yield sort(_joined(list(bucket.pieces())))[0]


def sort(table: pa.Table) -> tuple[pa.Table, Keys]:
    """The table (one chunk a column) by prompt_id, then row; and its sorted keys."""
    keys = keys_of(table["prompt_id"])
    order = np.lexsort((table["row"].to_numpy(), keys.low, keys.high))
    return take(table, order), Keys(keys.high[order], keys.low[order])


def take(table: pa.Table, order: np.ndarray) -> pa.Table:
    """The rows in this order; columns without a value are not moved."""
    at = pa.array(order)
    moved = [pa.nulls(len(order), c.type) if c.null_count == len(c) else c.take(at) for c in table.columns]
    return pa.table(moved, schema=table.schema)


def keys_of(column: pa.ChunkedArray) -> Keys:
    """Prompt ids as two numbers each. DataError for a text that is no id."""
    ids = column.combine_chunks()
    data = np.frombuffer(ids.buffers()[2] or b"", np.uint8)
    first = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset] if len(ids) else 0
    lengths = pc.binary_length(ids)
    if ids.null_count or pc.min(lengths).as_py() != ID_DIGITS or pc.max(lengths).as_py() != ID_DIGITS:
        raise DataError(f"a prompt_id is not {ID_DIGITS} hex digits; rows must have their ids before they are partitioned")
    nibbles = NIBBLE[data[first : first + ID_DIGITS * len(ids)].reshape(len(ids), ID_DIGITS)]
    if (nibbles > 15).any():
        raise DataError(f"a prompt_id is not {ID_DIGITS} hex digits; rows must have their ids before they are partitioned")
    packed = (nibbles[:, ::2] << 4) | nibbles[:, 1::2]
    halves = np.ascontiguousarray(packed).view(">u8").astype(np.uint64)
    return Keys(halves[:, 0].copy(), halves[:, 1].copy())


def cut(tables: Iterable[pa.Table], shard_bytes: int) -> Iterator[pa.Table]:
    """Shards of the sorted tables: as many whole prompts as fit into shard_bytes, at least one."""
    waiting: list[pa.Table] = []
    filled = 0
    for table in tables:
        keys = keys_of(table["prompt_id"])
        new = np.concatenate([[True], (keys.high[1:] != keys.high[:-1]) | (keys.low[1:] != keys.low[:-1])])
        starts = np.flatnonzero(new)
        sizes = np.add.reduceat(row_bytes(table), starts)
        begin = 0
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            if filled and filled + size > shard_bytes:
                if start > begin:
                    waiting.append(table.slice(begin, start - begin))
                yield bare(_joined(waiting))
                waiting, filled, begin = [], 0, start
            filled += size
        waiting.append(table.slice(begin))
    if waiting:
        yield bare(_joined(waiting))


def row_bytes(table: pa.Table) -> np.ndarray:
    """Bytes of each row's values, (N,) int64: text, numbers and list offsets; the same wherever the row lies."""
    total = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        if column.null_count < len(column):
            total += np.concatenate([value_bytes(chunk) for chunk in column.chunks])
    return total


def value_bytes(values: pa.Array) -> np.ndarray:
    """Bytes of each value of a column, (N,) int64; 0 for null."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        sizes: np.ndarray = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        return sizes
    if pa.types.is_list(kind):
        entries = values.flatten()
        ends = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False))])
        running = np.concatenate([[0], np.cumsum(value_bytes(entries))])
        return np.diff(running[ends.astype(np.int64)])
    if pa.types.is_struct(kind):
        inside = sum((value_bytes(part) for part in values.flatten()), np.zeros(len(values), np.int64))
        return inside
    width = max(kind.bit_width // 8, 1) if not pa.types.is_null(kind) else 0
    valid: np.ndarray = values.is_valid().to_numpy(zero_copy_only=False)
    return valid * np.int64(width)
