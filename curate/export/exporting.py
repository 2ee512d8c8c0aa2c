"""Write a version as a trainer's files: a folder that appears whole or not at all."""

import difflib
import json
import math
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from curate import __version__
from curate.errors import ExportError, UnknownName, UsageError
from curate.export import messages
from curate.export.format import EVIDENCE, Format, Options, Run
from curate.export.formats import FORMATS
from curate.store import arrow, disk
from curate.store.versions import Version

FORMAT = 1
NOTE = "export.json"


@dataclass(frozen=True)
class Exported:
    """An export that is written."""

    path: Path
    form: Format
    note: dict[str, Any]
    """export.json: version, content, options, rows by split, what was left out, files with their sha256."""

    @property
    def rows(self) -> dict[str, int]:
        """Rows by split."""
        rows: dict[str, int] = self.note["rows"]
        return rows

    @property
    def how_to_load(self) -> str:
        """Three lines of Python that give it to its trainer."""
        return self.form.load.format(path=str(self.path), split=next(iter(self.rows)))


def export(version: Version, to: str, out: Path | str | None = None, force: bool = False, **options: Any) -> Exported:
    """Write a version in a format.

    to: a name of FORMATS. out: the folder to make; default NAME-vN-FORMAT here. force: replace an earlier export there.
    options: see `Options`. ExportError for whatever would lose or falsify something, UsageError for a wrong call.
    """
    form = find(to)
    run = Run(version, read_options(options))
    folder = Path(out) if out is not None else Path(default_name(version, form))
    check_target(folder, force)
    refuse(form, run)
    form.prepare(run)
    with _staged(folder, force) as staged:
        files = _write_parts(form, run, staged)
        form.finish(run)
        files = _filled(form, run, files)
        note = _note(form, run, staged, files)
        _write_json(staged / NOTE, note)
        if form.typed:
            (staged / "README.md").write_text(card(form, run, files), encoding="utf-8")
    return Exported(folder.absolute(), form, note)


def find(name: str) -> Format:
    """The format of that name."""
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name, FORMATS, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise UnknownName(f"no export format '{name}'; {meant}there: {', '.join(FORMATS)}")


def default_name(version: Version, form: Format) -> str:
    """helpful-v7-trl-dpo."""
    return f"{version.name}-{f'v{version.number}' if version.number else version.label}-{form.name}"


def read_options(given: dict[str, Any]) -> Options:
    """The options, or UsageError naming each wrong one."""
    try:
        return Options(**given)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors()]
        raise UsageError(f"export options: {'; '.join(wrong)}") from error


def check_target(folder: Path, force: bool) -> None:
    """Refuse to overwrite, and to remove with --force what is no export."""
    if not os.path.lexists(folder):
        return
    if not force:
        raise UsageError(f"{folder} exists; choose another folder with --out, or say --force to replace it")
    if folder.is_symlink() or not folder.is_dir() or (any(folder.iterdir()) and not (folder / NOTE).is_file()):
        raise UsageError(
            f"{folder} is no export (it has no {NOTE}), so --force does not remove it; choose another folder with --out"
        )


def refuse(form: Format, run: Run) -> None:
    """ExportError where the version has what the format cannot carry, unless it is dropped on purpose."""
    if run.grain not in form.grains:
        raise ExportError(f"{form.name} is made of {' or '.join(form.grains)}; {run.version} holds {run.grain}")
    carried = form.carries - ({"goal"} if run.options.goal == "none" and run.grain == "pairs" and form.typed else set())
    lost = [name for name in EVIDENCE if name not in carried and name not in run.options.drop and run.has(name)]
    if lost:
        ways = " ".join(f"--drop {name}" for name in lost)
        raise ExportError(
            f"{form.name} cannot carry {', '.join(lost)} of {run.version}: say {ways}, or export as parquet or jsonl"
        )


@contextmanager
def _staged(folder: Path, force: bool) -> Iterator[Path]:
    """A folder beside the target that becomes it when all went well, and is removed otherwise."""
    parent = folder.absolute().parent
    staged = parent / f".{folder.absolute().name}.{uuid.uuid4().hex}"
    old = parent / f"{staged.name}.old"
    try:
        staged.mkdir(parents=True)
        yield staged
        for path in [*sorted(staged.iterdir()), staged]:
            disk.sync_file(path)
        check_target(folder, force)
        if folder.exists():
            disk.rename(folder, old)
        disk.rename(staged, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise ExportError(
            f"cannot write {folder}: {error.strerror or error}; make room there or choose another place with --out"
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)


@dataclass
class _File:
    """A file of training rows, opened at its first row."""

    path: Path
    json_columns: Collection[str] = ()
    rows: int = 0
    columns: pa.Schema | None = None
    _out: Any = None

    def write(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        self.columns, self.rows = table.schema, self.rows + table.num_rows
        if self.path.suffix == ".parquet":
            self._out = self._out or pq.ParquetWriter(self.path, table.schema, compression="zstd")
            self._out.write_table(table)
        else:
            self._out = self._out or self.path.open("w", encoding="utf-8", newline="\n")
            self._out.writelines(lines(table, self.json_columns))

    def close(self) -> None:
        if self._out is not None:
            self._out.close()


def _write_parts(form: Format, run: Run, folder: Path) -> dict[str, _File]:
    files = {}
    for part in form.parts(run):
        files[part] = _File(folder / f"{part}.{form.suffix}", form.json_columns)
        try:
            for table in form.read(run, part):
                files[part].write(table)
        finally:
            files[part].close()
    return files


def _filled(form: Format, run: Run, files: dict[str, _File]) -> dict[str, _File]:
    """The files that hold a row. ExportError if none does."""
    filled = {part: file for part, file in files.items() if file.rows}
    if not filled:
        left = ", ".join(f"{count:,} {reason}" for reason, count in sorted(run.left_out.items())) or "the version has none"
        raise ExportError(f"{form.name} of {run.version} would hold no row ({left}); nothing was written")
    return filled


def lines(table: pa.Table, json_columns: Collection[str] = ()) -> Iterator[str]:
    """The rows as JSON lines; text of json_columns becomes values."""
    columns = [_values(table[name], name in json_columns) for name in table.column_names]
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    for values in zip(*columns, strict=True):
        yield encode(dict(zip(table.column_names, values, strict=True))) + "\n"


def _values(column: pa.ChunkedArray, is_json: bool) -> list[Any]:
    if messages.is_messages(column.type):
        return list(messages.plain(column))
    values: list[Any] = column.to_pylist()
    return [None if text is None else messages.parsed(text) for text in values] if is_json else values


def _note(form: Format, run: Run, folder: Path, files: dict[str, _File]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "curate": __version__,
        "to": form.name,
        "trainer": form.trainer,
        "tested": form.tested,
        "version": str(run.version),
        "content": run.version.manifest["content"],
        "options": run.options.model_dump(mode="json"),
        "rows": {split: file.rows for split, file in files.items()},
        "left_out": dict(sorted(run.left_out.items())),
        "counts": dict(sorted(run.counts.items())),
        "files": [
            {"path": file.path.name, "rows": file.rows, "bytes": file.path.stat().st_size, "sha256": arrow.sha256_of(file.path)}
            for file in files.values()
        ],
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def card(form: Format, run: Run, files: dict[str, _File]) -> str:
    """README.md: the columns' types for `load_dataset`, which would otherwise guess them.

    Guessed, a file whose answers all look like dates becomes timestamps, and tool arguments get each other's keys.
    """
    first = next(iter(files.values()))
    header = ["configs:", "- config_name: default", "  data_files:"]
    for split, file in files.items():
        header += [f"  - split: {split}", f"    path: {file.path.name}"]
    header += ["dataset_info:", "  features:"]
    for column in first.columns or ():
        header += [f"  - name: {quoted(column.name)}", *(f"    {line}" for line in feature(column.type))]
    rows = ", ".join(f"{split} {file.rows:,}" for split, file in files.items())
    body = f"# {run.version} for {form.trainer}\n\nRows: {rows}. Written by curate as {form.name}; `{NOTE}` says how.\n"
    return "\n".join(["---", *header, "---", "", body])


def quoted(text: str) -> str:
    """A text as YAML on one line, in ASCII: a column may be called anything."""
    return yaml.safe_dump(text, default_style='"', width=math.inf).strip()


def feature(kind: pa.DataType) -> list[str]:
    """What a card says of a column of that type, line by line."""
    if not pa.types.is_list(kind):
        return [f"dtype: {'float64' if pa.types.is_float64(kind) else kind}"]
    if messages.is_messages(kind):
        return ["list: json"]
    if pa.types.is_struct(kind.value_type):
        return ["list:", *(line for one in kind.value_type for line in (f"- name: {one.name}", f"  {feature(one.type)[0]}"))]
    inner = feature(kind.value_type)
    return ["list:", *(f"  {line}" for line in inner)] if pa.types.is_list(kind.value_type) else [f"list: {inner[0][7:]}"]
