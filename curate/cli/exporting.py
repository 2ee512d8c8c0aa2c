"""The export command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.common import JsonOption, Reference, StoreOption, print_json, store_root

if TYPE_CHECKING:
    from curate.export import Exported
    from curate.export.check import Report


def add_to(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog="Example: curate export helpful-en@v3 --to trl-dpo --check")(export)


def export(
    reference: Reference,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="A format of the list above.")],
    out: Annotated[Path | None, typer.Option(help="Folder to make; else NAME-vN-FORMAT here.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in that folder.")] = False,
    by: Annotated[
        str | None,
        typer.Option(metavar="RATER[:ASPECT]", help="The score that labels (trl-kto), ranks, or is win (sppo)."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(metavar="X", help="trl-kto: the lowest score of a good response.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="RATER[:ASPECT]", help="attributes: a score that becomes a column; repeatable.")
    ] = None,
    goal: Annotated[str, typer.Option(metavar="system|user|none", help="Where a goal is put into words.")] = "system",
    skip: Annotated[
        list[str] | None, typer.Option(metavar="REASON", help="Leave out rows refused for it, such as identical; repeatable.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Leave out what the format cannot carry; repeatable.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Prove that the trainer's own code loads it.")] = False,
    tokenizer: Annotated[str | None, typer.Option(metavar="FOLDER", help="--check, masked-dpo: has a chat template.")] = None,
    max_length: Annotated[int | None, typer.Option(metavar="N", min=1, help="--check: count rows over so many tokens.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write training files; --check proves that they load.

    Pairs: trl-dpo, trl-reward and ms-swift (with margin), soft-dpo (label_prob, weight), masked-dpo (spans), stages (a file
    a stage), sppo, regression (log-odds of votes). Single responses: trl-kto, trl-sft, attributes (a column a score). Lists of a
    prompt's responses: ranked-list (PRO), scored-list (KnowPAT), rlhflow, triple (TPO). Everything: parquet, jsonl.
    """
    from curate.errors import UsageError
    from curate.export import export as write
    from curate.export.check import check as prove
    from curate.store.versions import Versions

    if not check and (max_length or (tokenizer and to != "masked-dpo")):
        raise UsageError("--tokenizer and --max-length belong to --check, --tokenizer also to masked-dpo")
    version = Versions(store_root(store)).find(reference)
    options = {"by": by, "threshold": threshold, "goal": goal, "skip": tuple(skip or ()), "drop": tuple(drop or ())}
    options |= {"attribute": tuple(attribute or ()), "tokenizer": tokenizer if to == "masked-dpo" else None}
    done = write(version, to, out, force, **options)
    report = prove(done.path, tokenizer, max_length) if check else None
    if as_json:
        print_json(done.note | {"path": str(done.path), "check": report.to_json() if report else None})
    else:
        _say(done)
        if report:
            _say_check(report)
    if report and not report.passed:
        raise typer.Exit(1)


def _say(done: "Exported") -> None:
    rows = ", ".join(f"{split} {count:,}" for split, count in done.rows.items())
    typer.echo(f"wrote {done.path}: {rows}, from {done.note['version']} as {done.form.name}")
    for what in ("left_out", "counts"):
        if done.note[what]:
            told = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in done.note[what].items())
            typer.echo(f"{what.replace('_', ' ')}: {told}")
    typer.echo(f"\nLoad it ({done.form.trainer}, {done.form.tested}):")
    typer.echo("\n".join(f"    {line}" for line in done.how_to_load.splitlines()) + "\n")


def _say_check(report: "Report") -> None:
    from curate.publish.wording import visible

    for split, found in report.splits.items():
        lengths = f", longest prompt {found.longest_prompt:,}, longest {found.longest:,} tokens" if found.longest else ""
        typer.echo(f"checked {split}: {found.rows:,} rows{lengths}")
    for line in report.notes:
        typer.echo(f"note: {visible(line)}")
    for line in report.problems:
        typer.echo(f"problem: {visible(line)}")
    with_trl = f" with TRL {report.trl}, tokenizer {report.tokenizer}" if report.trl else ""
    typer.echo(f"check {'passed' if report.passed else 'failed'}{with_trl}")
