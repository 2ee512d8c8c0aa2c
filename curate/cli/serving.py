"""Commands for what goes on by itself: up, down, schedule, schedules."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.common import JsonOption, StoreOption, command, console, print_json, store_root, store_words
from curate.cli.work import LogFormat, SetOption
from curate.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from curate.scheduling import Scheduled
    from curate.services import Services


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog="Example: curate up --port 4300")(up)
    app.command(epilog="Example: curate down")(down)
    app.command(epilog="Example: curate schedule curate.yaml --cron '0 3 * * *' --timezone Europe/Berlin")(schedule)
    app.command(epilog="Example: curate schedules")(schedules)


def say(text: str) -> None:
    """How it goes, beside what is printed for programs. Nobody need be there to read it."""
    with suppress(BrokenPipeError):
        typer.echo(text, err=True)


def up(
    port: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=65_535, help="Port of the server; else a free one from 4200 on."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="CURATE_DATABASE",
            help="postgresql://USER:PASSWORD@HOST:PORT/NAME, better in $CURATE_DATABASE than here; or sqlite, the default.",
        ),
    ] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="Of the worker's log: lines of text, or JSON.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a Prefect server and a worker for the store.

    Both are on this machine only and go on when you log out. Where they run already they are found; what was killed is
    started again. Runs see the environment of this command: set keys of models before.
    """
    import os

    from curate.services import up as start

    if log_format is not None:
        os.environ["CURATE_LOG_FORMAT"] = log_format.value
    found = start(store_root(store), port, database, say)
    if os.environ.get("PREFECT_API_URL") not in (None, "", found.api_url):
        say("note: PREFECT_API_URL is set, and other commands use that server instead; unset it to use this one")
    if as_json:
        print_json(asdict(found))
    else:
        _tell(found)


def _tell(found: "Services") -> None:
    started = " and ".join(found.started)
    typer.echo(f"started the {started}" if started else "server and worker run already")
    typer.echo(f"    page      {found.ui_url}")
    typer.echo(f"    api       {found.api_url}")
    typer.echo(f"    database  {found.database}")
    typer.echo(f"    logs      {found.logs}/server.log, worker.log")


def down(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Stop the store's server and worker.

    A run under way stops, too; what it has done is kept, and the next run continues. Schedules are kept.
    """
    from curate.services import down as stop

    stopped = stop(store_root(store), say)
    if as_json:
        print_json({"stopped": stopped})
    else:
        typer.echo("stopped server and worker" if stopped else "nothing runs for this store")


def schedule(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe file, or one of `curate recipes`; with --off also a dataset.")
    ],
    cron: Annotated[str | None, typer.Option(metavar="EXPR", help="Minute, hour, day, month and weekday: '0 3 * * *'.")] = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Of --cron, as Europe/Berlin; else this machine's.")
    ] = None,
    interval: Annotated[str | None, typer.Option(metavar="TIME", help="30s, 10m, 2h or 1d, counted from midnight UTC.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Remove the schedule; a run under way goes on.")] = False,
    refresh: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY", help="replace, append or window:30d: what a run takes of a source that changed; else the recipe's."
        ),
    ] = None,
    set_: SetOption = None,
    publish_anyway: Annotated[bool, typer.Option("--publish-anyway", help="Publish even if a gate is closed.")] = False,
    max_cost: Annotated[
        float | None, typer.Option(metavar="USD", min=0.0, help="Stop asking models at this cost, each run.")
    ] = None,
    max_calls: Annotated[int | None, typer.Option(metavar="N", min=0, help="Stop asking models after N calls, each run.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe again and again, by the worker of `curate up`.

    The recipe is checked now and read anew by each run. Scheduling it again replaces its times. Runs of one schedule never
    overlap: one that is due while another goes on is left out, and what was missed while the machine slept is one run.
    """
    from curate import scheduling

    root = store_root(store)
    if off:
        if cron or interval:
            raise UsageError("--off removes the schedule: leave out --cron and --interval")
        name = scheduling.unschedule(root, recipe)
        if as_json:
            print_json({"name": name, "scheduled": False})
        else:
            typer.echo(f"{name} is not scheduled any more")
        return
    when = scheduling.When.parse(cron, interval, timezone)
    order = scheduling.Order(recipe, tuple(set_ or ()), refresh, publish_anyway, max_cost, max_calls)
    made = scheduling.schedule(root, order, when)
    if as_json:
        print_json(_plain(made))
        return
    typer.echo(f"scheduled {made.name}: {made.when}, next at {_local(made.next)}, refresh {made.refresh}")
    typer.echo(f"    {command('schedules', *store_words(store))}")


def schedules(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the schedules of the store and their last runs."""
    from curate.scheduling import schedules as found_in

    found = found_in(store_root(store))
    if as_json:
        print_json([_plain(one) for one in found])
    elif found:
        _print(console(), found)
    else:
        typer.echo("nothing is scheduled; `curate schedule RECIPE --cron '0 3 * * *'` does it")


def _plain(one: "Scheduled") -> dict[str, object]:
    times = {name: value.isoformat() for name, value in asdict(one).items() if isinstance(value, datetime)}
    return asdict(one) | times


def _local(time: datetime | None) -> str:
    return "–" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _print(out: "Console", found: Sequence["Scheduled"]) -> None:
    from rich.table import Table
    from rich.text import Text

    from curate.publish.wording import visible

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("dataset", "when", "next run", "last run", "ended", "version"):
        table.add_column(title, header_style="dim", no_wrap=title != "when")
    for one in found:
        cells = (one.name, one.when, _brief(one.next), _brief(one.last), one.state, one.version)
        table.add_row(*(Text(visible(cell or "–"), overflow="fold") for cell in cells))
    out.print(table)
    for one in found:
        how = f"refresh {visible(one.refresh)}" if one.refresh else "refreshed as the recipe says"
        out.print(f"{visible(one.name)}: {visible(one.recipe)}, {how}", soft_wrap=True)


def _brief(time: datetime | None) -> str:
    """Day and time here, short enough for a table."""
    return "–" if time is None else f"{time.astimezone():%d %b %H:%M}"
