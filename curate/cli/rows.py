"""Rows to look at without a recipe: those of any preference file, or of a version."""

import glob
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.cli.common import store_root
from curate.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.source.rejects import Rejects
    from curate.source.spec import Source
    from curate.tables import Grain

BATCH = 1024  # rows looked at together
TEXT = 8_000_000  # characters of a batch, about: long rows make smaller batches


@dataclass(frozen=True)
class Rows:
    """Where rows lie and what they are."""

    source: "Source"
    grain: "Grain"
    store: Path | None = None
    """Of a version."""

    def read(self, rejects: "Rejects", scratch: Path, limit: int | None = None) -> Iterator["pa.Table"]:
        """Tables whose `source` and `row` are file and line, or version and number; at most `limit` rows in all, about."""
        return _of_version(self, limit) if self.source.version else _of_files(self, rejects, scratch, limit)


def rows_at(place: Path, store: Path | None = None) -> Rows:
    """The rows of a file, a folder of files or a pattern; of a version where NAME@v3 is no file. UsageError for neither."""
    if glob.has_magic(str(place)) or place.expanduser().exists():
        return _recognised(place)
    name, at, _ = str(place).partition("@")
    if not at:
        raise UsageError(f"{place} does not exist; name a file of pairs, answers or prompts, or a version such as {name}@v1")
    from curate.source.spec import Source, grain_of
    from curate.store.versions import Versions

    found = Versions(store_root(store)).find(str(place))
    made = json.loads((found.path / "manifest.json").read_text(encoding="utf-8"))["grain"]
    table = "responses" if made == "responses" else "pairs"
    source = Source.model_validate({"version": f"{name}@v{found.number}", "table": table})
    return Rows(source, grain_of(source), store_root(store))


def _recognised(file: Path) -> Rows:
    """How a file, or a folder of files, is laid out."""
    from curate.recipe.starter import layout_of
    from curate.source.files import files_of
    from curate.source.spec import Place, Source, grain_of

    path = str(file.expanduser().absolute())
    first = files_of(Place(path=path), Path.cwd())[0]
    layout = layout_of(first, Path.cwd())
    # bad rows are findings here: none is too many
    source = Source.model_validate({**layout.source, "path": path, "max_rejects": 1e18})
    return Rows(source, grain_of(source))


def _of_version(rows: Rows, limit: int | None) -> Iterator["pa.Table"]:
    import pyarrow as pa

    from curate.source.earlier import read_version
    from curate.source.files import version_folder

    left = limit
    for table in read_version(version_folder(rows.source, rows.store), rows.source, rows.grain, BATCH, numbered=True):
        table = table if left is None else table.slice(0, left)
        if not table.num_rows:
            return
        left = None if left is None else left - table.num_rows
        named = pa.repeat(str(rows.source.version), table.num_rows)
        yield table.set_column(table.schema.get_field_index("source"), "source", named)


def _of_files(rows: Rows, rejects: "Rejects", scratch: Path, limit: int | None) -> Iterator["pa.Table"]:
    from curate.source.files import files_of
    from curate.source.formats import format_of, no_format, read_file
    from curate.source.reader import table_of

    def batches(place: Any) -> Iterator[tuple[str, Any]]:
        for file in files_of(place, Path.cwd()):
            kind = place.format or format_of(file.name)
            if kind is None:
                raise UsageError(no_format(str(place.path), file.name))
            for batch in read_file(file, kind, None, [], rejects):
                yield file.name, batch

    waiting: list[dict[str, Any]] = []
    size = 0
    for row in _mapped(rows.source, batches, rejects, scratch, limit):
        waiting.append(row)
        size += sum(len(row.get(side) or "") for side in ("chosen", "rejected", "response"))
        if len(waiting) == BATCH or size > TEXT:
            yield table_of(waiting, rows.grain)
            waiting, size = [], 0
    if waiting:
        yield table_of(waiting, rows.grain)


def _mapped(
    source: "Source", batches: Callable[[Any], Iterator[tuple[str, Any]]], rejects: "Rejects", scratch: Path, limit: int | None
) -> Iterator[dict[str, Any]]:
    """The rows that the source's lines make, joined to what they are joined with."""
    from curate.source.dialects import DIALECTS
    from curate.source.join import Joined
    from curate.source.rejects import BadRow

    mapper = DIALECTS[source.dialect].mapper(source)
    seen = 0
    with ExitStack() as stack:
        joins = [
            stack.enter_context(closing(Joined(one, batches(one), scratch / f"join{place}.sqlite", rejects)))
            for place, one in enumerate(source.join)
        ]
        for file, batch in batches(source):
            for line, fields in batch:
                if limit is not None and seen >= limit:
                    return
                seen += 1
                try:
                    for joined in joins:
                        fields, _ = joined.attach(fields)
                    made = mapper(fields)
                except BadRow as fault:
                    rejects.bad(file, line, fault, str(fields))
                    continue
                yield from (row | {"source": file, "row": line} for row in made)
