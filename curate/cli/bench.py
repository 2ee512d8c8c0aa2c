"""`curate bench`: how good is a filter on my own data."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.common import JsonOption, console, print_json
from curate.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.bench_noise import Plan

QUICK_METHODS = "untreated,confident_learning,trimmed,label_em,peer_review,peer_review_apart,oracle"
SAID_EVERY = 30.0

bench = typer.Typer(
    help="Measure filters on your own data.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: curate bench noise pairs.jsonl",
)


@bench.command("noise", epilog="Example: curate bench noise pairs.jsonl --rates 0,0.2,0.4 --out bench")
def noise(
    data: Annotated[Path, typer.Argument(help="A version's folder, or a file of pairs that `curate lint` reads, too.")],
    rates: Annotated[
        str, typer.Option(metavar="A,B", help="Shares of labels to flip.", show_default="0,0.1,0.2,0.3,0.4; quick: 0,0.3")
    ] = "",
    kinds: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Kinds of flips: symmetric, length, gap, annotator.",
            show_default="symmetric,length; quick: symmetric",
        ),
    ] = "",
    methods: Annotated[str, typer.Option(metavar="A,B", help="Methods to compare; all if not given.", show_default=False)] = "",
    seeds: Annotated[int, typer.Option(min=0, help="Draws of held-out prompts and of flips.", show_default="3; quick: 2")] = 0,
    model: Annotated[
        str, typer.Option(help="A sentence-transformers model; lexical vectors (hashing) if not given.", show_default=False)
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option(min=0, help="Pairs to use at most, drawn by whole prompts; 0 for all.", show_default="5000; quick: 2000"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: fewer pairs, rates, kinds, draws and methods, unless they are given.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for noise.html and noise.json.")] = Path("bench-noise"),
    as_json: JsonOption = False,
) -> None:
    """Plant wrong labels in your pairs, and see which filter finds them.

    The last lines name the filter to use, and why. Ctrl-C keeps what is done; the same command goes on from there.
    """
    from curate import bench_noise
    from curate.models.spec import ModelSpec

    plan = _plan(
        rates or ("0,0.3" if quick else "0,0.1,0.2,0.3,0.4"),
        kinds or ("symmetric" if quick else "symmetric,length"),
        methods or (QUICK_METHODS if quick else ""),
        seeds or (2 if quick else 3),
    )
    most = limit if limit is not None else 2_000 if quick else 5_000
    spec = ModelSpec(backend="sentence_transformers", name=model) if model else ModelSpec(backend="hashing", name="lexical")
    table = _pairs(data)
    drawn = bench_noise.some(table, most)
    if drawn.num_rows < table.num_rows:
        typer.echo(f"{drawn.num_rows:,} of {table.num_rows:,} pairs, drawn by whole prompts; --limit 0 takes all", err=True)
    if not model:
        typer.echo("vectors are lexical: they compare words and spelling, not meaning; --model takes a better one", err=True)
    for said in plan.left_out:
        typer.echo(said, err=True)
    subject = bench_noise.compared(data.resolve().name, drawn, spec, table.num_rows - drawn.num_rows)
    known = bench_noise.known_runs(out, subject)
    runs: list[dict[str, Any]] = []
    stopped = False
    try:
        with _Progress(plan.total) as progress:
            for run in bench_noise.bench(subject, plan, known):
                runs.append(run)
                progress.show(run, run in known)
    except KeyboardInterrupt:
        stopped = True
    if not runs:
        raise typer.Exit(130)
    advised = bench_noise.write(subject, plan, runs, out)
    if as_json:
        print_json({"complete": not stopped, "advice": advised, "summary": bench_noise.summary(runs)})
    else:
        typer.echo(bench_noise.as_text(bench_noise.summary(runs)))
        typer.echo("\n" + "\n".join(advised) + f"\nwrote {out / bench_noise.PAGE} and {out / bench_noise.RESULT}")
    if stopped:
        typer.echo(f"stopped after {len(runs):,} of {plan.total:,} runs; the same command goes on from there", err=True)
        raise typer.Exit(130)


def _plan(rates: str, kinds: str, methods: str, seeds: int) -> "Plan":
    from curate.bench_noise import Plan
    from curate.maths.noise_baselines import METHODS, missing
    from curate.maths.planted import KINDS

    asked, wanted = _names(methods) or list(METHODS), _names(kinds)
    unknown = [name for name in asked if name not in METHODS] + [name for name in wanted if name not in KINDS]
    if unknown or not wanted:
        raise UsageError(f"unknown: {', '.join(unknown)}; methods: {', '.join(METHODS)}; kinds: {', '.join(KINDS)}")
    try:
        shares = tuple(sorted({float(text) for text in _names(rates)}))
    except ValueError as error:
        raise UsageError(f"--rates: numbers with commas between, got {rates!r}") from error
    if not shares or not all(0 <= share <= 0.5 for share in shares):
        raise UsageError(f"--rates: shares from 0 to 0.5, got {rates!r}")
    unable = missing(asked)
    if unable and methods:
        raise UsageError("; ".join(unable.values()))
    methods_in_order = tuple(method for method in METHODS if method in asked and method not in unable)
    return Plan(tuple(kind for kind in KINDS if kind in wanted), shares, methods_in_order, seeds, tuple(unable.values()))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _pairs(data: Path) -> "pa.Table":
    """The pairs of a version's folder, or of a file in any layout that `curate lint` knows."""
    import tempfile

    import pyarrow as pa

    from curate import tables
    from curate.bench_noise import named, version_pairs
    from curate.cli.rows import rows_at
    from curate.source.rejects import Rejects

    if (data / "pairs").is_dir():
        return version_pairs(data)
    there = rows_at(data)
    if there.grain != "pairs":
        raise DataError(f"{data}: its rows are {there.grain}; flips are planted in pairs of a chosen and a rejected side")
    with tempfile.TemporaryDirectory() as scratch, Rejects(Path(scratch) / "rejects.jsonl") as rejects:
        found = list(there.read(rejects, Path(scratch)))
        if rejects.total.rejected:
            typer.echo(
                f"{rejects.total.rejected:,} rows cannot be read and are left out; `curate lint {data}` names them", err=True
            )
    return named(pa.concat_tables([tables.empty("pairs"), *found]))


class _Progress:
    """How many runs are done, and about how long the rest takes: a live line on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.fresh = total, 0, 0
        self.live = console(stderr=True).is_terminal
        self.began, self.said = time.monotonic(), float("-inf")

    def show(self, run: dict[str, Any], known: bool) -> None:
        """One run more. known: it was made before."""
        self.done, self.fresh = self.done + 1, self.fresh + (not known)
        now = time.monotonic()
        if not self.live and now - self.said < SAID_EVERY:
            return
        self.said = now
        left = (self.total - self.done) * (now - self.began) / self.fresh if self.fresh else 0.0
        rest = f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left" if left else ""
        text = f"{self.done:,} of {self.total:,} runs: {run['rate']:.0%} {run['kind']}, seed {run['seed']}, {run['method']}{rest}"
        typer.echo(f"\r{text}\x1b[K" if self.live else text, err=True, nl=not self.live)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            typer.echo("\r\x1b[K", err=True, nl=False)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(bench, name="bench")
