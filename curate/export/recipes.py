"""Exports that a recipe asks for: checked when it is read, written after each version it publishes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.errors import UsageError
from curate.store.versions import Version


def export_problems(asked: Mapping[str, Any]) -> list[str]:
    """What is wrong with an entry of a recipe's `exports`, {to: format, option: value}; empty if nothing is."""
    from curate.export.exporting import find, read_options

    try:
        find(str(asked["to"]))
        read_options({key: value for key, value in asked.items() if key != "to"})
    except UsageError as error:
        return [str(error)]
    return []


def write_exports(version: Version, asked: Sequence[Mapping[str, Any]], root: Path) -> list[Path]:
    """Write the exports of a version under root/exports; one that is there already is left as it is."""
    from curate.export.exporting import default_name, export, find

    written = []
    for one in asked:
        folder = root / "exports" / default_name(version, find(str(one["to"])))
        if not folder.exists():
            export(version, str(one["to"]), folder, **{key: value for key, value in one.items() if key != "to"})
        written.append(folder)
    return written
