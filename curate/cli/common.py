"""What several commands share: the store option, JSON output, the console."""

import json
import os
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


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))
