"""Held-out sets: where they lie, and the texts of their items."""

import gzip
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from curate.errors import DataError
from curate.filter.repeats import EarlierVersion
from curate.filter.texts import messages_of
from curate.store.kept_rows import kept_parts
from curate.store.versions import Version

FIELDS = ("question", "prompt", "instruction", "problem", "text", "content", "input")
"""Fields looked for in a held-out set, the first it has, unless `field` names one."""
HELD_BACK = "test"
"""The split taken of a dataset that has several."""
VERSION = re.compile(r"[A-Za-z0-9][\w.-]*@v\d+")
BATCH = 1000  # rows read at a time


class HubSet(BaseModel):
    """A split of a dataset of the Hugging Face hub, at a commit: so it is the same set in every run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hf: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$", description="The dataset's id, owner/name.")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="The commit, in full.")]
    config: str | None = Field(default=None, description="Its configuration, if it has several.")
    split: str = Field(default=HELD_BACK, description="Its split.")


def _kind(where: Any) -> str:
    if isinstance(where, dict | HubSet):
        return "hub"
    return "version" if isinstance(where, str) and VERSION.fullmatch(where) else "path"


Where = Annotated[
    Annotated[EarlierVersion, Tag("version")] | Annotated[Path, Tag("path")] | Annotated[HubSet, Tag("hub")], Discriminator(_kind)
]
"""As a recipe names it."""
Place = Path | HubSet | Version
"""As it is read: a file, a dataset folder, a dataset of the hub, or a version of the store."""


def files_of(path: Path) -> list[Path]:
    """The file, or all files of a folder that are not hidden; the path itself if there is nothing."""
    inside = [file for file in sorted(path.rglob("*")) if file.is_file() and not _hidden(file.relative_to(path))]
    return inside or [path]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def changed(place: Place) -> int:
    """When its content was last another one, in nanoseconds; 0 for what cannot change."""
    if isinstance(place, HubSet):
        return 0
    files = files_of(place) if isinstance(place, Path) else [place.path / "manifest.json"]
    return max(file.stat().st_mtime_ns for file in files)


def texts_of(place: Place, field: str | None) -> tuple[str, ...]:
    """The text of every item, in the set's order. field: the one that holds it; found if None.

    Of a version, its distinct prompts. Raises DataError for what cannot be read or holds no text, and says where.
    """
    if isinstance(place, Version):
        parts = [messages_of(part.table["prompt"]) for part in kept_parts(place, "prompts", ["prompt"])]
        return tuple(dict.fromkeys(text for part in parts for text in part if text is not None))
    if isinstance(place, Path) and place.is_file():
        return tuple(_texts(_rows(place), field, str(place)))
    told = f"dataset {place.hf}, split {place.split}" if isinstance(place, HubSet) else str(place)
    dataset = _loaded(place, told)
    has = [name for name in ([field] if field else FIELDS) if name in dataset.column_names]
    if not has:
        raise DataError(f"{told}: {_missing(field)}. It has {', '.join(dataset.column_names)}")
    batches = dataset.select_columns(has).with_format("arrow").iter(batch_size=BATCH)  # so that nothing is decoded
    return tuple(_texts((row for batch in batches for row in batch.to_pylist()), field, told))


def _texts(rows: Iterator[dict[str, Any]], field: str | None, told: str) -> Iterator[str]:
    for place, row in enumerate(rows, 1):
        names = [field] if field else [name for name in FIELDS if isinstance(row.get(name), str)]
        value = row.get(names[0]) if names else None
        if not isinstance(value, str):
            raise DataError(f"{told}, row {place}: {_missing(field)}. It has {', '.join(row)}")
        yield value


def _missing(field: str | None) -> str:
    named = f"no field {field}" if field else f"none of the fields {', '.join(FIELDS)}"
    return f"{named} holds a text; `field` names the one that does"


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield from (row for batch in pq.ParquetFile(path).iter_batches() for row in batch.to_pylist())
        return
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: should be a JSON object")
            yield row


def _loaded(place: Path | HubSet, told: str) -> Any:
    """One split, as `datasets` reads it."""
    import datasets

    try:
        if isinstance(place, HubSet):
            return datasets.load_dataset(place.hf, name=place.config, split=place.split, revision=place.revision)
        if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
            found = datasets.load_from_disk(os.fspath(place))
        else:
            with tempfile.TemporaryDirectory(prefix="held-out-") as scratch:
                found = datasets.load_dataset(os.fspath(place), cache_dir=scratch, keep_in_memory=True)
    except Exception as error:  # datasets raises many kinds, most of them about the name, config or split
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{told} cannot be read: {reason}") from error
    return _split(found, told) if isinstance(found, dict) else found


def _split(splits: dict[str, Any], told: str) -> Any:
    """The one to be held back, or the only one."""
    if HELD_BACK not in splits and len(splits) > 1:
        raise DataError(f"{told} has the splits {', '.join(splits)} and none called {HELD_BACK}; name the file or folder of one")
    return splits[HELD_BACK if HELD_BACK in splits else next(iter(splits))]
