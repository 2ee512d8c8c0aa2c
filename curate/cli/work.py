"""Commands that make things: init, recipes, doctor, plan, run, runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.common import JsonOption, StoreOption, console, print_json, store_root
from curate.errors import UsageError

if TYPE_CHECKING:
    from curate.recipe import Recipe

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
    app.command(epilog="Example: curate plan curate.yaml --set margin.min=0.5")(plan)
    app.command(epilog="Example: curate run curate.yaml --limit 200")(run)
    app.command(epilog="Example: curate runs --json")(runs)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo keeps its store and files; made anew.")] = Path("curate-demo"),
) -> None:
    """Curate the packaged sample data from start to end, explaining each step. No model is called."""
    from curate.cli.demo import play

    play(folder)


def init(
    recipe: Annotated[Path, typer.Argument(help="The recipe file to write.")] = Path("curate.yaml"),
    data: Annotated[Path | None, typer.Option(help="Your own file: its columns are recognised and mapped.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; else the file's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing recipe.")] = False,
) -> None:
    """Write a commented recipe to start from: for your own file, or for the packaged samples."""
    from curate.recipe.starter import init_text

    if recipe.exists() and not force:
        raise UsageError(f"{recipe} exists; choose another name or say --force")
    text = init_text(data, name, base=recipe.absolute().parent)
    recipe.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {recipe}; next: curate plan {recipe}, then curate run {recipe}")


def recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with curate; any of them can be planned and run by name."""
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
    """Check a recipe and show its steps, what is done already and how many rows to expect. Runs nothing."""
    from curate.planning import outlook, render

    steps = outlook(load(recipe, set_), store_root(store))
    if as_json:
        print_json([step._asdict() for step in steps])
        return
    console().print(render(steps))


def run(
    recipe: RecipeArgument,
    set_: SetOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use about N rows and make a preview, never a numbered version.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Shards worked on at once; else one a core.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe and publish a version. Ctrl-C loses nothing: the same command continues."""
    from curate.cli.progress import watcher
    from curate.engine.local import LocalEngine
    from curate.run import run_recipe

    ready = load(recipe, set_)
    watch = watcher()
    command = ["curate", *sys.argv[1:]]
    root = store_root(store)
    try:
        done = run_recipe(ready, root, limit=limit, watch=watch, engine=LocalEngine(workers), command=command)
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
    _say_published(done, root, store)


def _say_published(done: Any, root: Path, store: Path | None) -> None:
    manifest = done.version.manifest
    rows = ", ".join(f"{split} {count:,}" for split, count in manifest["splits"].items())
    if done.published:
        typer.echo(f"published {done.version}: {rows} {manifest['grain']}, in {done.version.path}")
    else:
        typer.echo(f"nothing published: {done.version} already holds exactly this content ({rows} {manifest['grain']})")
    for path in done.exports:
        typer.echo(f"exported to {path}")
    extra = f" --store {store}" if store else ""
    typer.echo(f"look at it: curate show {done.version}{extra}; curate report {done.version}{extra}")


def runs(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List past runs, crashed ones included."""
    from curate.store.runs import past_runs, render

    found = past_runs(store_root(store))
    if as_json:
        print_json(found)
    else:
        console().print(render(found))
