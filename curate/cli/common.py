"""What several commands share: the store option, JSON output, the console."""

import json
import math
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_STORE = Path("data/store")

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Folder of the store; else $CURATE_STORE, else ./data/store.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables for people.")]
Reference = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="A dataset, as NAME (its newest version), NAME@v7 or NAME@tag.")
]


def store_root(store: Path | None) -> Path:
    """The store a command works on."""
    return store or Path(os.environ.get("CURATE_STORE") or DEFAULT_STORE)


def console(stderr: bool = False) -> "Console":
    """A console that does not take square brackets in data for markup, and keeps lines whole when piped."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = 140
    return made


def store_words(store: Path | None) -> list[object]:
    """The words that make another command work on the same store."""
    return ["--store", store] if store else []


def command(*words: object) -> str:
    """A `curate` command as a shell takes it."""
    return shlex.join(["curate", *map(str, words)])


def print_json(value: Any) -> None:
    """One JSON document on standard output. A number that is none, which JSON cannot say, is null."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(_sayable(value), indent=1, ensure_ascii=not unicode, default=str, allow_nan=False))


def _sayable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _sayable(entry) for key, entry in value.items()}
    return [_sayable(entry) for entry in value] if isinstance(value, list | tuple) else value
