"""`curate bench`: how good is a filter on my own data."""

from pathlib import Path

import typer

bench = typer.Typer(
    help="Measure filters on your own data.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: curate bench noise pairs.jsonl",
)


@bench.command("noise", epilog="Example: curate bench noise pairs.jsonl --rates 0,0.2,0.4 --out bench")
def noise(
    data: Path = typer.Argument(  # noqa: B008
        help="A version's folder, or a .jsonl, .parquet or .arrow file with prompt, chosen, rejected."
    ),
    rates: str = typer.Option("0,0.1,0.2,0.3,0.4", help="Shares of labels to flip."),
    kinds: str = typer.Option("symmetric,length", help="Kinds of flips: symmetric, gap, length, annotator."),
    methods: str = typer.Option("", help="Methods to compare; all if not given."),
    seeds: int = typer.Option(3, min=1, help="Draws of held-out prompts and flips."),
    model: str = typer.Option("", help="A sentence-transformers model; lexical vectors (hashing) if not given."),
    out: Path = typer.Option(Path("bench-noise"), help="Folder for noise.html and noise.json."),  # noqa: B008
) -> None:
    """Plant wrong labels in your pairs, and see which filter finds them."""
    from curate import bench_noise
    from curate.errors import UsageError
    from curate.maths.noise_baselines import METHODS
    from curate.maths.noise_bench import summary
    from curate.maths.planted import KINDS
    from curate.models.spec import ModelSpec

    asked = [name.strip() for name in methods.split(",") if name.strip()] or list(METHODS)
    wanted = [name.strip() for name in kinds.split(",") if name.strip()]
    unknown = [name for name in asked if name not in METHODS] + [name for name in wanted if name not in KINDS]
    if unknown:
        raise UsageError(f"unknown: {', '.join(unknown)}; methods: {', '.join(METHODS)}; kinds: {', '.join(KINDS)}")
    try:
        shares = [float(text) for text in rates.split(",")]
    except ValueError as error:
        raise UsageError(f"--rates: numbers with commas between, got {rates!r}") from error
    if not all(0 <= share <= 0.5 for share in shares):
        raise UsageError(f"--rates: shares from 0 to 0.5, got {rates!r}")
    spec = ModelSpec(backend="sentence_transformers", name=model) if model else ModelSpec(backend="hashing", name="lexical")
    given, gap = bench_noise.compared(bench_noise.read_pairs(data), spec)
    chosen = [kind for kind in KINDS if kind in wanted]
    runs = bench_noise.bench(given, gap, chosen, shares, asked, seeds, said=lambda text: typer.echo(text, err=True))
    rows = summary(runs)
    typer.echo(bench_noise.as_text(rows))
    for path in bench_noise.write(rows, runs, data.name, out):
        typer.echo(f"wrote {path}")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(bench, name="bench")
