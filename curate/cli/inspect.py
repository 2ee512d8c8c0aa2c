"""Commands that look at versions: versions, show, diff, why, report, tag, verify, gc."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from curate.cli.common import JsonOption, Reference, StoreOption, console, print_json, store_root
from curate.errors import UsageError


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog="Example: curate versions helpful-en")(versions)
    app.command(epilog='Example: curate show helpful-en@v3 --where "margin > 2" -n 10 --seed 1')(show)
    app.command(epilog="Example: curate diff helpful-en@v2 helpful-en@v3")(diff)
    app.command(epilog="Example: curate why helpful-en@v3 1f09ab")(why)
    app.command(epilog="Example: curate report helpful-en@v3 --out report.html")(report)
    app.command(epilog="Example: curate tag helpful-en@v3 production")(tag)
    app.command(epilog="Example: curate verify helpful-en@v3")(verify)
    app.command(epilog="Example: curate gc --keep-days 7")(gc)


def versions(
    name: Annotated[str | None, typer.Argument(help="A dataset; else every dataset.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dataset versions, newest last."""
    from curate.cli.views import print_versions
    from curate.store.versions import Versions

    found = Versions(store_root(store))
    if name is not None:
        found.find(name)
    listed = [version for dataset in ([name] if name else found.names()) for version in found.all(dataset)]
    if as_json:
        print_json(
            [
                {
                    "version": str(v),
                    "grain": v.manifest["grain"],
                    "splits": v.manifest["splits"],
                    "path": str(v.path),
                    "run": v.run,
                }
                for v in listed
            ]
        )
        return
    tags = {dataset: found.tags(dataset) for dataset in {version.name for version in listed}}
    print_versions(console(), listed, tags)


def tag(
    reference: Reference,
    tag: Annotated[str, typer.Argument(help="The tag: letters, digits, '.', '-', '_'.")],
    delete: Annotated[bool, typer.Option("--delete", help="Remove the tag.")] = False,
    store: StoreOption = None,
) -> None:
    """Point a tag at a version, or remove it."""
    from curate.store.versions import Versions

    found = Versions(store_root(store))
    version = found.find(reference)
    if version.number == 0 and not delete:
        raise UsageError("a preview cannot be tagged: it is replaced by the next preview")
    found.tag(version.name, tag, None if delete else version.number)
    typer.echo(f"removed tag {tag} of {version.name}" if delete else f"{version.name}@{tag} is {version}")


def verify(
    reference: Annotated[
        str | None, typer.Argument(metavar="NAME[@VERSION]", help="One version; else all, and the store's files.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute every sha256; say what is missing or changed."""
    from curate.publish.wording import plural, visible
    from curate.store.store import Store
    from curate.store.versions import Versions, damage

    root = store_root(store)
    found = Versions(root)
    chosen = [found.find(reference)] if reference else [version for name in found.names() for version in found.all(name)]
    problems = [problem for version in chosen for problem in damage(version)]
    if reference is None:
        problems += Store(root).damage()
    if as_json:
        print_json({"versions": [str(version) for version in chosen], "problems": problems})
    else:
        for problem in problems:
            typer.echo(visible(problem))
        typer.echo(f"{plural(len(chosen), 'version')} checked, {plural(len(problems), 'problem') if problems else 'no problems'}")
    if problems:
        raise typer.Exit(1)


def gc(
    keep_days: Annotated[
        float, typer.Option(metavar="DAYS", min=0.0, help="Keep whatever is younger, used or not: a run may be under way.")
    ] = 1.0,
    unused_days: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0.0, help="Also forget finished steps older than this; a rerun computes them again."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Free store files that nothing needs; versions stay.

    What no step points at any more is removed.
    """
    from curate.store import gc as garbage
    from curate.store.store import Store

    opened = Store(store_root(store))
    found = garbage.find(opened, keep_days * 86_400, None if unused_days is None else unused_days * 86_400)
    if not dry_run:
        garbage.free(opened, found)
    if as_json:
        print_json({"files": len(found.files), "bytes": found.bytes, "freed": not dry_run})
    else:
        typer.echo(f"{'would free' if dry_run else 'freed'} {len(found.files):,} files, {found.bytes / 1e6:,.1f} MB")


def show(
    reference: Reference,
    where: Annotated[
        str | None,
        typer.Option(metavar="CONDITION", help="A condition on columns, as in SQL: \"margin > 2 AND domain = 'maths'\"."),
    ] = None,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many rows.")] = 5,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Draw the rows at random with this seed; else the first ones.")
    ] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Only this split.")] = None,
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="pairs, responses or prompts, with dropped/ before it for dropped rows.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B", help="Print these columns, comma-separated, instead of the texts.")
    ] = None,
    rethreshold: Annotated[
        list[str] | None,
        typer.Option("--rethreshold", metavar="STEP=VALUE", help="What another threshold would keep; may repeat."),
    ] = None,
    funnel: Annotated[bool, typer.Option("--funnel", help="Show where all rows went, step by step, instead of rows.")] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Show every metric that a gate may name, and how the gates stood, instead of rows.")
    ] = False,
    raters: Annotated[
        bool, typer.Option("--raters", help="Show how far each rater can be relied on, by the votes alone, instead of rows.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Do not shorten texts, or the list of raters.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read rows of a version, kept or dropped.

    Also shows where all rows went (--funnel), its metrics and gates (--metrics), its raters (--raters), and what another
    threshold would keep (--rethreshold). Runs no step anew.
    """
    from curate.cli import views
    from curate.publish import show as shown
    from curate.publish.noise_words import in_short
    from curate.store.versions import Versions

    version = Versions(store_root(store)).find(reference)
    if funnel:
        if as_json:
            print_json(version.manifest["steps"])
        else:
            views.print_funnel(console(), version)
        return
    if metrics:
        if as_json:
            told = {name: version.manifest.get(name) for name in ("metrics", "gates", "published_anyway")}
            print_json({"version": str(version)} | told)
        else:
            views.print_metrics(console(), version)
        return
    if raters:
        from curate.cli.raters_view import MOST, print_raters
        from curate.publish.reliability import reliability

        table_of_raters = reliability(version.path, version.manifest)
        if as_json:
            print_json({"version": str(version), "raters": [asdict(rater) for rater in table_of_raters]})
        else:
            print_raters(console(), str(version), table_of_raters, sys.maxsize if full else MOST)
        return
    if rethreshold:
        moved = shown.rethreshold(version, _thresholds(rethreshold))
        if as_json:
            print_json(asdict(moved))
        else:
            views.print_rethreshold(console(), moved)
        return
    names = [name.strip() for name in columns.split(",")] if columns else None
    sample = None if seed is None else n
    found = shown.show(version, where, sample, seed or 0, n, split, table, names)
    if as_json:
        print_json(asdict(found))
    else:
        measurers = [step["name"] for step in version.manifest["steps"] if step["operator"] == "features"]
        noise = in_short(version.manifest)
        views.print_pairs(console(), found, sys.maxsize if full else views.TEXT_CHARACTERS, measurers, noise)


def _thresholds(texts: list[str]) -> dict[str, float]:
    thresholds = {}
    for text in texts:
        step, _, value = text.partition("=")
        try:
            thresholds[step.strip()] = float(value)
        except ValueError:
            raise UsageError(f"--rethreshold takes STEP=VALUE, such as margin=0.5, got {text!r}") from None
    return thresholds


def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A version, as NAME@v2.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another version.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what changed between two versions, and which line did it.

    Rows added, removed, flipped and rescored; steps; the recipe.
    """
    from curate.cli.views import print_diff
    from curate.publish.diff import diff as compare
    from curate.store.versions import Versions

    found = Versions(store_root(store))
    result = compare(found.find(before), found.find(after))
    if as_json:
        print_json(asdict(result))
    else:
        print_diff(console(), result)


def why(
    reference: Reference,
    row: Annotated[str, typer.Argument(help="A row's id or its first six or more digits, or its number.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the whole story of one row, kept or dropped."""
    from curate.cli.views import print_why
    from curate.publish.why import why as story
    from curate.store.versions import Versions

    told = story(Versions(store_root(store)).find(reference), row)
    if as_json:
        print_json(asdict(told))
    else:
        print_why(console(), told)


def report(
    reference: Reference,
    out: Annotated[Path | None, typer.Option(help="File to write; else NAME-vN.html here.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Which pairs are shown.")] = 0,
    store: StoreOption = None,
) -> None:
    """Write one HTML page about a version.

    The funnel, scores, lengths and 20 pairs side by side, in one self-contained file.
    """
    from curate.publish.report import report as page
    from curate.store.versions import Versions

    version = Versions(store_root(store)).find(reference)
    path = out or Path(f"{str(version).replace('@', '-')}.html")
    path.write_text(page(version, seed=seed), encoding="utf-8")
    typer.echo(f"wrote {path}")
