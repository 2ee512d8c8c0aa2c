"""Read the raw rows of a file, whatever its format, in batches and in bounded memory.

A raw row is (line, fields). Lines count from 1; in JSON arrays and columnar files they are row numbers.
"""

import csv
import difflib
import errno
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic_core

from curate.errors import DataError
from curate.source.fields import kind_of, roots
from curate.source.rejects import Rejects
from curate.source.spec import Format

Numbered = list[tuple[int, dict[str, Any]]]
CHUNK = 1 << 20  # bytes read at once
BATCH = 2048  # rows turned into Python objects at once
JSON_MOST = 1 << 30  # a JSON array is parsed whole; beyond this many bytes it must be JSONL
CELL_MOST = 1 << 30  # characters of one CSV cell
SUFFIXES: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"}
SUFFIXES |= {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
BOM = b"\xef\xbb\xbf"


def no_format(place: str, name: str) -> str:
    """What to say of a file whose suffix tells no format."""
    return f"{place}: the suffix of {name!r} tells no format; say format: jsonl (or json, csv, tsv, parquet, arrow)"


def format_of(name: str) -> Format | None:
    """The format that a file's suffix tells, compression set aside; None if it tells none."""
    path = Path(name.lower())
    return SUFFIXES.get(Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix)


def read_file(path: Path, kind: Format, wanted: set[str] | None, needs: list[str], rejects: Rejects) -> Iterator[Numbered]:
    """Batches of a file's rows; bad lines go to `rejects`. wanted: fields to read of a columnar file, None for all."""
    readers: dict[Format, Callable[[], Iterable[Numbered]]] = {
        "jsonl": lambda: _batched(read_jsonl(path, rejects)),
        "json": lambda: _batched(read_json(path, rejects)),
        "csv": lambda: _batched(read_csv(path, ",", needs, rejects)),
        "tsv": lambda: _batched(read_csv(path, "\t", needs, rejects)),
        "parquet": lambda: read_batches(parquet_batches(path, wanted, needs), path.name, rejects),
        "arrow": lambda: read_batches(arrow_batches(path, wanted, needs), path.name, rejects),
    }
    try:
        yield from readers[kind]()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise  # the rejects did not fit on the disk; the source is not to blame
        raise DataError(f"{path} cannot be read as {kind}: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return "it ends in the middle; copy it again" if "Truncated compressed" in told else told


def _batched(rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[Numbered]:
    batch: Numbered = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, decompressed; a torn file is an OSError."""
    with pa.input_stream(str(path), compression=COMPRESSED.get(path.suffix.lower())) as stream:
        while piece := stream.read(CHUNK):
            yield piece


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file without their ends and without a byte order mark."""
    rest: list[bytes] = []  # pieces of a line not yet ended
    first = True
    for piece in chunks(path):
        if first:
            piece, first = piece.removeprefix(BOM), False
        whole = piece.split(b"\n")
        if len(whole) > 1:
            yield b"".join([*rest, whole[0]]).removesuffix(b"\r")
            for line in whole[1:-1]:
                yield line.removesuffix(b"\r")
            rest = []
        rest.append(whole[-1])
    last = b"".join(rest).removesuffix(b"\r")
    if last:
        yield last


def shown(line: bytes) -> str:
    """Bytes as text that can be shown, whatever they are."""
    return line[:800].decode("utf-8", "backslashreplace")


def read_jsonl(path: Path, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """One JSON object a line; blank lines are passed over."""
    for number, line in enumerate(lines(path), 1):
        if not line or line.isspace():
            continue
        rejects.saw()
        try:
            value = parsed(line)
        except UnicodeDecodeError as error:
            rejects.add(path.name, number, None, "not UTF-8", shown(line), f"byte {error.start + 1} of the line")
        except json.JSONDecodeError as error:
            rejects.add(path.name, number, None, "invalid JSON", shown(line), f"{error.msg} at character {error.pos + 1}")
        except (ValueError, RecursionError) as error:
            rejects.add(path.name, number, None, "invalid JSON", shown(line), _sentence(error))
        else:
            if isinstance(value, dict):
                yield number, value
            else:
                rejects.add(path.name, number, None, "not an object", shown(line), f"got {kind_of(value)}")


def parsed(line: bytes) -> Any:
    """The value of a line of JSON; errors are the standard library's."""
    try:
        return pydantic_core.from_json(line, cache_strings="keys")  # a quarter of the time
    except ValueError:  # it is also stricter: half characters and deep nesting are JSON to the other
        return json.loads(line.decode())


def read_json(path: Path, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """An array of objects; the line is the place in the array, from 1."""
    content = bytearray()
    for piece in chunks(path):
        content += piece
        if len(content) > JSON_MOST:
            raise DataError(
                f"{path} is a JSON array beyond {JSON_MOST >> 30} GB, which is parsed whole; write it as JSONL, one object a line"
            )
    if not content.strip():
        return
    try:
        rows = json.loads(content.removeprefix(BOM).decode())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as json: {_sentence(error)}") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} must hold an array of objects, got {kind_of(rows)}; one object a line is format: jsonl")
    for number, row in enumerate(rows, 1):
        rejects.saw()
        if isinstance(row, dict):
            yield number, row
        else:
            rejects.add(path.name, number, None, "not an object", str(row), f"got {kind_of(row)}")


def read_csv(path: Path, delimiter: str, needs: list[str], rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows under a header, the line that of their first cell; an empty cell is null."""
    csv.field_size_limit(CELL_MOST)
    # surrogateescape keeps bytes that are not UTF-8 visible, so that the row and not the file is rejected
    rows = csv.reader((line.decode("utf-8", "surrogateescape") + "\n" for line in lines(path)), delimiter=delimiter, strict=True)
    header = next(rows, None)
    if header is None:
        return
    check_columns(header, needs, path.name)
    while True:
        number = rows.line_num + 1
        try:
            cells = next(rows, None)
        except csv.Error as error:
            rejects.saw()
            rejects.add(path.name, number, None, "invalid CSV", "", str(error))
            continue
        if cells is None:
            return
        if not cells:
            continue
        rejects.saw()
        told = delimiter.join(cells)
        if any("\udc80" <= mark <= "\udcff" for mark in told):
            rejects.add(path.name, number, None, "not UTF-8", told)
        elif len(cells) != len(header):
            rejects.add(path.name, number, None, "wrong number of fields", told, f"{len(cells)} for {len(header)} columns")
        else:
            yield number, {name: cell or None for name, cell in zip(header, cells, strict=True)}


def check_columns(names: list[str], needs: list[str], place: str) -> None:
    """DataError naming the first column that a mapping needs and the file lacks, with the nearest it has."""
    for path in needs:
        if not roots(path) & set(names):
            near = difflib.get_close_matches(path, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names[:30])}"
            raise DataError(f"{place} has no column {path!r}; {hint}")


def picked(names: list[str], wanted: set[str] | None) -> list[str]:
    """The columns to read of those there are."""
    return [name for name in names if wanted is None or name in wanted]


def parquet_batches(path: Path, wanted: set[str] | None, needs: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet file."""
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        check_columns(names, needs, path.name)
        columns = picked(names, wanted)
        for batch in file.iter_batches(BATCH, columns=columns):
            yield batch.select(columns)


def arrow_batches(path: Path, wanted: set[str] | None, needs: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of an Arrow IPC file or stream."""
    if not path.stat().st_size:
        return
    with pa.memory_map(str(path)) as mapped:
        file = mapped.read_at(6, 0) == b"ARROW1"
        reader = pa.ipc.open_file(mapped) if file else pa.ipc.open_stream(mapped)
        check_columns(reader.schema.names, needs, path.name)
        columns = picked(reader.schema.names, wanted)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if file else iter(reader)
        for batch in batches:
            yield batch.select(columns)


def read_batches(batches: Iterable[pa.RecordBatch], place: str, rejects: Rejects) -> Iterator[Numbered]:
    """The rows of Arrow batches; a row with text that is no UTF-8 is rejected."""
    number = 1
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            part = batch.slice(start, BATCH)
            rejects.saw(part.num_rows)
            try:
                yield list(enumerate(part.to_pylist(), number))
            except UnicodeDecodeError:
                yield list(_one_by_one(part, number, place, rejects))
            number += part.num_rows


def _one_by_one(batch: pa.RecordBatch, number: int, place: str, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    for offset in range(batch.num_rows):
        row = batch.slice(offset, 1)
        for name in batch.schema.names:
            try:
                row.column(name).to_pylist()
            except UnicodeDecodeError as error:
                rejects.add(place, number + offset, name, "not UTF-8", "", f"byte {error.start + 1} of the field")
                break
        else:
            yield number + offset, row.to_pylist()[0]
