"""Arrow files as the store writes them: zstd, 4,096-row batches, equal tables giving equal bytes."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from curate.errors import Damaged

BATCH_ROWS = 4096


def to_bytes(table: pa.Table) -> pa.Buffer:
    """The table as an Arrow IPC file in memory."""
    sink = pa.BufferOutputStream()
    whole = table.combine_chunks()  # one chunk a column: the bytes do not depend on how the table was put together
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(pa.table([_own(column) for column in whole.columns], whole.schema), max_chunksize=BATCH_ROWS)
    return sink.getvalue()


def _own(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in memory of its own: behind the rows of a part stand those of the whole, and would be written as padding."""
    if column.get_total_buffer_size() <= column.nbytes + _last_offsets(column.type):
        return column
    return pa.chunked_array([pa.concat_arrays([*column.chunks, pa.array([], column.type)])])


def _last_offsets(kind: pa.DataType) -> int:
    """Bytes of the offsets behind the last row, which `nbytes` leaves out: one for each text and list within."""
    own = 4 if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_list(kind) else 0
    return own + sum(_last_offsets(kind.field(place).type) for place in range(kind.num_fields))


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table, or only some of its columns: the others are never decompressed."""
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            if columns is not None:
                fields = [reader.schema.get_field_index(name) for name in columns]
                reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
            return reader.read_all()
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise Damaged(f"{path} is missing from the store; `curate verify` lists what else is") from error
        raise Damaged(f"{path} cannot be read as Arrow ({error}); `curate verify` lists damaged files") from error


def batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The table in record batches, for files larger than memory."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        if columns is not None:
            fields = [reader.schema.get_field_index(name) for name in columns]
            reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
        for index in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(index)])


def sha256_of(path: Path) -> str:
    """Full sha256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
