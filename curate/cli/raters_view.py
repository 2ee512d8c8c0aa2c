"""The raters of a version as a person reads them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curate.cli.views import _table
from curate.publish.wording import number, plural, visible

if TYPE_CHECKING:
    from rich.console import Console

    from curate.publish.reliability import Rater

MOST = 40
MEANING = (
    "reliability: probability of naming the better side, by all votes alone; – where no other rater named a side of the same "
    "pairs. agrees: with most of the others, without itself, among so many pairs (of). for chosen: share of its verdicts. order "
    "flips: share of the pairs seen in both orders on which its verdict changes with the order"
)
COLUMNS = ("rater", ">pairs", ">ties", ">failed", ">reliability", ">95 %", ">agrees", ">of", ">for chosen", ">order flips")


def print_raters(console: "Console", version: str, raters: "Sequence[Rater]", most: int = MOST) -> None:
    """A line for each rater, those with most pairs first, and what the columns mean."""
    if not raters:
        console.print(f"nobody voted on the pairs of {visible(version)}", markup=False)
        return
    table = _table(*COLUMNS)
    for rater in raters[:most]:
        name = f"{rater.rater} {rater.aspect}" if rater.aspect not in ("", rater.rater) else rater.rater
        interval = "–" if rater.low is None or rater.high is None else f"{rater.low:.2f} to {rater.high:.2f}"
        counts = (rater.pairs, rater.ties, rater.failed)
        shares = [_share(rater.agreement), f"{rater.others:,}", _share(rater.with_label), _share(rater.flipped)]
        table.add_row(visible(name), *map(number, counts), _share(rater.reliability), interval, *shares)
    console.print(table)
    rest = f"; {plural(len(raters) - most, 'more rater')}: --full" if len(raters) > most else ""
    console.print(f"{plural(len(raters), 'rater')} of {visible(version)}{rest}. {MEANING}", style="dim", markup=False)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
