"""Which score series of a version an option means."""

from typing import Any

from curate import tables
from curate.errors import UsageError
from curate.export.format import Run


def known(run: Run, column: str) -> list[tuple[str, str]]:
    """The (rater, aspect) of a score column; an aspect that is not told is the empty text."""
    return [(rater, aspect) for rater, aspect in run.version.manifest["raters"].get(column, [])]


def named(series: list[tuple[str, str]]) -> str:
    """The series as a user may name them."""
    return ", ".join(f"{rater}:{aspect}" if aspect else rater for rater, aspect in series) or "none"


def meant(run: Run, by: str, column: str, option: str = "--by") -> tuple[str, str | None]:
    """The one series that `by` means, as (rater, aspect or None for any); UsageError for none or several."""
    rater, aspect = tables.split_rater(by)
    there = known(run, column)
    matching = [one for one in there if one[0] == rater and aspect in (None, one[1])]
    if not matching:
        raise UsageError(f"{run.version} has no score {option} {by} (scores: {named(there)})")
    if len(matching) > 1:
        raise UsageError(f"{option} {by} means {len(matching)} scores: say which aspect (scores: {named(there)})")
    return rater, aspect


def last_step(run: Run, operator: str) -> dict[str, Any] | None:
    """The manifest's last step of an operator; None if there is none."""
    steps = [step for step in run.version.manifest.get("steps", []) if step["operator"] == operator]
    return steps[-1] if steps else None
