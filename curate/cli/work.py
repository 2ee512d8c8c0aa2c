"""Commands that make things: init, recipes, doctor, plan, run, runs."""

import glob
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.common import JsonOption, StoreOption, command, console, print_json, store_root, store_words
from curate.errors import UsageError

if TYPE_CHECKING:
    from curate.recipe import Recipe
    from curate.run import Done

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of one of `curate recipes`.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a value of the recipe; may be repeated.")
]


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
) -> None:
    """Curate the sample data from start to end, explaining it.

    Nothing is downloaded and no real model is called; it takes seconds.
    """
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
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe and publish a version.

    Ctrl-C loses nothing, nor does a crash: the same command continues.
    """
    from curate.cli.progress import watcher
    from curate.engine.local import LocalEngine
    from curate.run import run_recipe

    ready = load(recipe, set_)
    watch = watcher()
    typed = ["curate", *sys.argv[1:]]
    try:
        done = run_recipe(
            ready,
            store_root(store),
            limit=limit,
            watch=watch,
            engine=LocalEngine(workers),
            command=typed,
            max_cost=max_cost,
            max_calls=max_calls,
        )
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
            }
        )
        return
    _say_published(done, store)


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
    for path in done.exports:
        typer.echo(f"exported to {path}")
    for verb in ("show", "report"):
        typer.echo(f"    {command(verb, done.version, *store_words(store))}")


def runs(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List past runs, crashed ones included."""
    from curate.cli.views import print_runs
    from curate.store.runs import past_runs

    found = past_runs(store_root(store))
    if as_json:
        print_json(found)
    else:
        print_runs(console(), found)
