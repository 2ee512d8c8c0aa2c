"""Commands that make things: init, recipes, doctor, plan, run, runs."""

import glob
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.common import JsonOption, StoreOption, command, console, print_json, store_root, store_words
from curate.errors import GateClosed, UsageError

if TYPE_CHECKING:
    from curate.logs import Lines
    from curate.recipe import Recipe
    from curate.run import Done

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of one of `curate recipes`.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a value of the recipe; may be repeated.")
]


class LogFormat(StrEnum):
    """How lines of a log look."""

    text = "text"
    json = "json"


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application, in the order a newcomer needs them."""
    app.command(epilog="Example: curate demo /tmp/demo")(demo)
    app.command(epilog="Example: curate init --data answers.jsonl")(init)
    app.command(epilog="Example: curate recipes")(recipes)
    app.command(epilog="Example: curate doctor")(doctor)
    app.command(epilog="Example: curate plan curate.yaml --set pair.min_gap=0.5")(plan)
    app.command(epilog="Example: curate run curate.yaml --limit 200")(run)
    app.command(epilog="Example: curate runs --json")(runs)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo keeps its store and files; made anew.")] = Path("curate-demo"),
    scheduled: Annotated[
        bool, typer.Option("--schedule", help="The second act: a schedule, a worker, a closed gate, a refresh. A minute or two.")
    ] = False,
) -> None:
    """Curate the sample data from start to end, explaining it.

    Nothing is downloaded and no real model is called; it takes seconds.
    """
    if scheduled:
        from curate.cli.demo_schedule import play as play_schedule

        play_schedule(folder)
        return
    from curate.cli.demo import play

    play(folder)


def init(
    recipe: Annotated[Path, typer.Argument(help="The recipe file to write.")] = Path("curate.yaml"),
    data: Annotated[Path | None, typer.Option(help="Your own file: its columns are recognised and mapped.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; else the file's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing recipe.")] = False,
) -> None:
    """Write a commented recipe to start from.

    For your own file, whose columns are recognised, or for the sample data.
    """
    from curate.recipe.starter import starter

    if recipe.exists() and not force:
        raise UsageError(f"{recipe} exists; choose another name or say --force")
    if data is not None and not glob.has_magic(str(data)) and not data.expanduser().exists():
        raise UsageError(f"{data} does not exist; name a file of rows, or leave out --data for the sample data")
    start = starter(data, name, base=recipe.absolute().parent)
    recipe.write_text(start.text, encoding="utf-8")
    if start.notes:
        typer.echo("\n".join(["note:", *(f"  {note}" for note in start.notes)]), err=True)
    typer.echo(f"wrote {recipe}; next: {command('plan', recipe)}, then {command('run', recipe)}")


def recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with curate.

    Any of them can be planned and run by name.
    """
    from curate.packaged import gallery

    entries = gallery()
    if as_json:
        print_json([{"name": entry.name, "about": entry.about, "path": str(entry.path)} for entry in entries])
        return
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        typer.echo(f"{entry.name:<{width}}  {entry.about}")
    typer.echo("\nRun one with `curate run NAME`; `--set source.path=FILE` gives it your data.")


def doctor(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show what is present and missing on this machine."""
    from curate.cli.doctor import checkup, render

    found = checkup(store_root(store))
    if as_json:
        print_json([check._asdict() for check in found])
    else:
        console().print(render(found))
    if any(check.state == "broken" for check in found):
        raise typer.Exit(1)


def load(recipe: str, overrides: list[str] | None) -> "Recipe":
    """The recipe of a file or of the gallery."""
    from curate.packaged import find_recipe
    from curate.recipe import read_recipe

    return read_recipe(find_recipe(recipe), overrides=overrides or ())


def plan(recipe: RecipeArgument, set_: SetOption = None, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Check a recipe and show what a run would do.

    Its steps, what is done already and how many rows to expect. Runs nothing.
    """
    from curate.planning import outlook, render

    steps = outlook(load(recipe, set_), store_root(store))
    if as_json:
        print_json([step._asdict() for step in steps])
        return
    screen = console()
    screen.print(render(steps, screen.width))


def run(
    recipe: RecipeArgument,
    set_: SetOption = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use about N rows and make a preview, never a numbered version.")
    ] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", min=1, help="Shards worked on at once; else one a core.")] = None,
    max_cost: Annotated[float | None, typer.Option(metavar="USD", min=0.0, help="Stop asking models at this cost.")] = None,
    max_calls: Annotated[int | None, typer.Option(metavar="N", min=0, help="Stop asking models after N calls.")] = None,
    refresh: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY", help="Of a changed source: replace, append, or window:N, window:Nd, window:Nv; else the recipe's."
        ),
    ] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(help="Lines with times for a log, or JSON for a program; else a live bar, or plain lines in a pipe."),
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="Run it with the outcome as JSON on its input; else $CURATE_NOTIFY."),
    ] = None,
    publish_anyway: Annotated[
        bool, typer.Option("--publish-anyway", help="Publish even if a gate is closed; the manifest says so.")
    ] = False,
    inline: Annotated[
        bool, typer.Option("--inline", help="Run without Prefect even if `curate up` or PREFECT_API_URL is there.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe and publish a version.

    Ctrl-C loses nothing, nor does a crash: the same command continues. Where a Prefect server is at hand (`curate up`, or
    PREFECT_API_URL) the run shows there as a flow; what it makes is the same to the byte.
    """
    from curate.cli.flows import perform
    from curate.engine.local import LocalEngine
    from curate.refresh import Refresh
    from curate.run import Run
    from curate.store.store import Store

    ready = load(recipe, set_)
    running = Run(
        ready,
        Store(store_root(store)),
        limit=limit,
        engine=LocalEngine(workers),
        command=["curate", *sys.argv[1:]],
        max_cost=max_cost,
        max_calls=max_calls,
        publish_anyway=publish_anyway,
        refresh=None if refresh is None else Refresh.parse(refresh),
        notify=notify or os.environ.get("CURATE_NOTIFY"),
    )
    watch = lines(running.id, ready.name, log_format)
    running.watch = watch
    try:
        done = perform(running, inline)
    except GateClosed as error:
        if as_json:
            print_json(_closed(running.id, error))
        raise
    except KeyboardInterrupt:
        watch.close()
        typer.echo("stopped. Finished shards and steps are kept; run the same command again to continue.", err=True)
        raise
    finally:
        watch.close()
    if as_json:
        print_json(
            {
                "version": str(done.version),
                "published": done.published,
                "run": done.run,
                "path": str(done.version.path),
                "exports": [str(path) for path in done.exports],
                "gates": done.version.manifest.get("gates", []),
            }
        )
        return
    _say_published(done, store)


def _closed(run: str, error: GateClosed) -> dict[str, Any]:
    gates = [result.to_json() for result in error.results]
    return {"version": None, "published": False, "run": run, "gates": gates, "metrics": error.metrics}


def lines(run: str, dataset: str, log_format: LogFormat | None) -> "Lines":
    """What tells how the run goes: lines of that format, or a bar where somebody looks."""
    from curate.cli.progress import watcher
    from curate.logs import Layout, Lines

    return Lines(Layout(run, dataset).emitter(log_format.value)) if log_format else watcher()


def _say_published(done: "Done", store: Path | None) -> None:
    from curate.cli.views import split_rows

    manifest = done.version.manifest
    rows = f"{split_rows(manifest['splits'])} {manifest['grain']}"
    if done.version.number == 0:
        typer.echo(f"made {done.version}, which is no version and is replaced by the next preview: {rows}")
    elif done.published:
        typer.echo(f"published {done.version}: {rows}, in {done.version.path}")
    else:
        typer.echo(f"nothing published: {done.version} already holds exactly this content ({rows})")
    _say_gates(done)
    for path in done.exports:
        typer.echo(f"exported to {path}")
    for verb in ("show", "report"):
        typer.echo(f"    {command(verb, done.version, *store_words(store))}")


def _say_gates(done: "Done") -> None:
    """The gates that are closed or hold narrowly, where something was made."""
    from curate.publish import gates
    from curate.publish.wording import plural, visible

    results = gates.results_of(done.version.manifest)
    if not results or not done.published:
        return
    failed = gates.closed(results)
    how = "would be closed" if done.version.number == 0 else "closed, published anyway"
    said = f"{len(failed)} of them {how}" if failed else "all passed"
    typer.echo(f"{plural(len(results), 'gate')}, {said}")
    if told := [result for result in results if result.note]:
        typer.echo(visible(gates.table(told)))


def runs(
    run_id: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Show this run in full; the beginning of its id will do.", show_default=False),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this dataset.")] = None,
    last: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the newest N.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List past runs, crashed ones included, or show one in full."""
    from curate.cli.views import print_run, print_runs
    from curate.store.runs import past_runs

    found = [record for record in past_runs(store_root(store)) if name is None or record.get("name") == name]
    if run_id is None:
        found = found[:last]
        print_json(found) if as_json else print_runs(console(), found, name)
        return
    record = the_run(found, run_id)
    if as_json:
        print_json(record)
    else:
        print_run(console(), record, continuing(record, store))


def the_run(records: list[dict[str, Any]], run_id: str) -> dict[str, Any]:
    """The run of that id, or the only one whose id begins so."""
    from curate.errors import UnknownName

    alike = [record for record in records if record["id"].startswith(run_id)]
    exact = [record for record in alike if record["id"] == run_id]
    if len(exact or alike) != 1:
        few = "several runs begin with" if alike else "no run is called"
        raise UnknownName(f"{few} {run_id!r}; `curate runs` lists those there are")
    return (exact or alike)[0]


def continuing(record: dict[str, Any], store: Path | None) -> str | None:
    """The command that goes on with a run that published nothing, as far as its record tells."""
    if record["state"] not in ("crashed", "failed", "interrupted", "gate_closed"):
        return None
    told = record.get("command")
    if isinstance(told, list) and told[:1] == ["curate"]:
        return command(*told[1:])
    limit = [] if record.get("limit") is None else ["--limit", record["limit"]]
    return command("run", record["recipe"], *limit, *store_words(store)) if record.get("recipe") else None
