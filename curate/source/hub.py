"""Read datasets of the Hugging Face hub, or local dataset folders."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.errors import DataError
from curate.source.formats import BATCH, check_columns, picked
from curate.source.spec import Place

COMMIT = re.compile(r"[0-9a-f]{40}")


def commit_of(name: str, revision: str | None) -> str:
    """The commit of a dataset's revision (default main); without a network, the one last downloaded."""
    if revision and COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, constants

    try:
        sha = HfApi().dataset_info(name, revision=revision, timeout=30).sha
    except Exception as error:  # the hub's own errors, and those of whatever network library lies below
        note = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs" / (revision or "main")
        if note.is_file():
            return note.read_text().strip()
        told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"hub dataset {name} at {revision or 'main'} cannot be resolved to a commit: {told}; "
            "correct the name, or say revision: <commit>"
        ) from error
    return str(sha)


def read_split(
    place: Place, folder: Path | None, wanted: set[str] | None, needs: list[str], scratch: Path
) -> Iterator[pa.RecordBatch]:
    """Batches of one split of a dataset; wanted as for `formats.read_file`."""
    told = f"{place.hf}:{place.split}" if place.split else str(place.hf)
    dataset = _load(place, folder, scratch)
    check_columns(dataset.column_names, needs, told)
    columns = picked(dataset.column_names, wanted)
    # raw Arrow columns: images and audio stay {bytes, path} instead of being decoded
    for table in dataset.select_columns(columns).with_format("arrow").iter(batch_size=BATCH):
        yield from table.combine_chunks().to_batches()


def _load(place: Place, folder: Path | None, scratch: Path) -> Any:
    import datasets

    try:
        if folder is not None and (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(folder))[place.split]
        if folder is not None and (folder / "state.json").is_file():
            return datasets.load_from_disk(str(folder))
        if folder is not None:
            return datasets.load_dataset(
                str(folder), name=place.config, split=place.split, cache_dir=os.fspath(scratch / "datasets")
            )
        commit = commit_of(str(place.hf), place.revision)
        return datasets.load_dataset(place.hf, name=place.config, split=place.split, revision=commit)
    except DataError:
        raise
    except Exception as error:  # datasets raises many kinds, most of them about the name, config or split
        told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"dataset {place.hf} (config {place.config}, split {place.split}) cannot be read: {told}") from error
