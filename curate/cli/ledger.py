"""The command that tells what models cost and keeps what they answered: ledger."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from curate.cli.common import JsonOption, StoreOption, console, print_json, store_root
from curate.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from curate.models.ledger_spent import Spent


def add_to(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog="Example: curate ledger --by day")(ledger)


def ledger(
    by: Annotated[Literal["model", "step", "day"], typer.Option(help="What to add up by.")] = "model",
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl[.zst]", help="Write every record to a file instead, a line of JSON each."),
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="Take over the answers of another store, or of a ledger's folder, instead."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Read every byte instead; exit 1 if records were damaged.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what model calls cost; export, merge or check the answers."""
    if sum((export is not None, merge is not None, check)) > 1:
        raise UsageError("--export, --merge and --check are commands of their own: give one of them")
    root = store_root(store) / "ledger"
    if export is not None:
        _export(root, export, as_json)
    elif merge is not None:
        _merge(root, merge, as_json)
    elif check:
        _check(root, as_json)
    else:
        _spent(root, by, as_json)


def _spent(root: Path, by: Literal["model", "step", "day"], as_json: bool) -> None:
    from curate.models.ledger_spent import grouped, spent

    everything = spent(root)
    rows = grouped(everything, by)
    if as_json:
        combined = [asdict(row) for row in grouped(everything)]
        print_json({"by": by, "rows": [_named(row, by) for row in rows], "all": combined})
    else:
        _print(console(), rows, by)


def _named(row: "Spent", by: str) -> dict[str, object]:
    """A row without the names it is not added up by."""
    return {name: value for name, value in asdict(row).items() if name == by or name not in ("model", "step", "day")}


def _print(out: "Console", rows: Sequence["Spent"], by: str) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from curate.publish.wording import visible

    if not rows:
        out.print("nothing was asked of a model yet")
        return
    table = Table(box=box.SIMPLE_HEAD, show_footer=len(rows) > 1)
    total = sum(rows[1:], rows[0])
    for name, footer in (
        (by, "all"),
        ("calls", f"{total.calls:,}"),
        ("answered", f"{total.answered:,}"),
        ("tokens in", f"{total.prompt_tokens:,}"),
        ("tokens out", f"{total.response_tokens:,}"),
        ("USD", f"{total.cost_usd:,.4f}"),
        ("hours waited", f"{total.seconds / 3600:,.2f}"),
        ("errors", _errors(total)),
    ):
        table.add_column(name, Text(footer), justify="left" if name in (by, "errors") else "right")
    for row in rows:
        table.add_row(
            Text(visible(getattr(row, by)) or "–"),
            f"{row.calls:,}",
            f"{row.answered:,}",
            f"{row.prompt_tokens:,}",
            f"{row.response_tokens:,}",
            f"{row.cost_usd:,.4f}",
            f"{row.seconds / 3600:,.2f}",
            Text(visible(_errors(row))),
        )
    out.print(table)


def _errors(row: "Spent") -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in row.errors.items())


def _export(root: Path, out: Path, as_json: bool) -> None:
    from curate.models.ledger_care import export
    from curate.publish.wording import plural

    count = export(root, out)
    if as_json:
        print_json({"path": str(out), "records": count})
    else:
        typer.echo(f"wrote {plural(count, 'record')} to {out}")


def _merge(root: Path, other: Path, as_json: bool) -> None:
    from curate.models.ledger_care import ledger_of, merge
    from curate.publish.wording import plural

    if other.is_file():
        raise UsageError(f"--merge takes a store or a ledger's folder, got the file {other}; an export is not taken back")
    merged = merge(root, ledger_of(other))
    if as_json:
        print_json(asdict(merged))
    else:
        here = f"{merged.present:,} {'was' if merged.present == 1 else 'were'} here already"
        typer.echo(f"copied {plural(merged.copied, 'segment')}, {merged.bytes / 1e6:,.1f} MB; {here}")


def _check(root: Path, as_json: bool) -> None:
    from curate.models.ledger_care import check
    from curate.publish.wording import plural, visible

    found = check(root)
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo(
            f"{plural(found.records, 'record')}, {found.answers:,} of them answers, in {plural(found.segments, 'segment')}, "
            f"{found.bytes / 1e6:,.1f} MB"
        )
        for name, size in found.torn.items():
            typer.echo(
                f"{visible(name)}: {size:,} bytes torn at the end (a killed process, or one writing now); no answer is lost"
            )
        for name, count in found.corrupt.items():
            typer.echo(f"{visible(name)}: damaged in {plural(count, 'place')}; what was there is asked again when it is needed")
    if found.corrupt:
        raise typer.Exit(1)
