"""Exports that a recipe asks for: checked when it is read, written after each version it publishes."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.errors import ExportError, UsageError
from curate.store.versions import Version

LISTS = ("drop", "skip")
"""Options that a message may name as a way out: words of a command, and lists in a recipe."""


def export_problems(asked: Mapping[str, Any]) -> list[str]:
    """What is wrong with an entry of a recipe's `exports`, {to: format, option: value}; empty if nothing is."""
    from curate.export.exporting import find, read_options

    try:
        find(str(asked["to"]))
        read_options(_options(asked))
    except UsageError as error:
        return [str(error)]
    return []


def write_exports(version: Version, asked: Sequence[Mapping[str, Any]], root: Path) -> list[Path]:
    """Write the exports of a version under root/exports, several of one format numbered from the second on.

    One that is there as it is asked for is left alone; one with other options is replaced.
    """
    from curate.export.exporting import default_name, export, find

    written: list[Path] = []
    names: Counter[str] = Counter()
    for one in asked:
        name = default_name(version, find(str(one["to"])))
        names[name] += 1
        folder = root / "exports" / (name if names[name] == 1 else f"{name}-{names[name]}")
        if not _is_there(folder, version, one):
            try:
                export(version, str(one["to"]), folder, force=True, **_options(one))
            except ExportError as error:
                raise ExportError(f"{version} is there, its export is not: {error}{_in_recipe(error)}") from error
        written.append(folder)
    return written


def _options(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if key != "to"}


def _is_there(folder: Path, version: Version, asked: Mapping[str, Any]) -> bool:
    """Whether the folder is this very export."""
    from curate import __version__
    from curate.export.exporting import FORMAT, NOTE, read_options

    try:
        note = json.loads((folder / NOTE).read_bytes())
    except (OSError, ValueError):
        return False
    told = {
        "format": FORMAT,
        "curate": __version__,
        "to": str(asked["to"]),
        "version": str(version),
        "content": version.manifest["content"],
        "options": read_options(_options(asked)).model_dump(mode="json"),
    }
    return isinstance(note, dict) and {name: note.get(name) for name in told} == told


def _in_recipe(error: ExportError) -> str:
    """How a recipe says what the message tells a command to say."""
    named = {name: re.findall(rf"--{name} (\w+)", str(error)) for name in LISTS}
    fields = ", ".join(f"{name}: [{', '.join(values)}]" for name, values in named.items() if values)
    return f"; in the recipe that is {fields}" if fields else ""
