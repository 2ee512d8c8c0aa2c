"""What a run would do: steps done already, rows to expect. Calls no model and reads no data but hashes of files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from curate.publish.wording import visible
from curate.recipe import Recipe
from curate.recipe.plan import changed
from curate.run import Run
from curate.store.store import Store

if TYPE_CHECKING:
    from rich.table import Table


WIDE = 100  # columns a terminal needs for the parameters


class Outlook(NamedTuple):
    """What is known of one step before a run."""

    step: str
    operator: str
    grain: str
    """Grain in, and out where it changes."""
    done: bool
    rows: int | None
    """Rows it saw, or will see; None if that is not known before the steps ahead of it have run."""
    kept: int | None
    calls: int
    """Model calls to expect."""
    parameters: dict[str, Any]
    """Those that differ from their defaults."""
    line: int | None


def outlook(recipe: Recipe, root: Path) -> list[Outlook]:
    """One entry for the source and for each step, in order."""
    run = Run(recipe, Store(root))
    stage = run.found_source()
    kept = stage.snapshot.kept if stage else None
    found = [Outlook("source", "source", recipe.grain, stage is not None, kept, kept, 0, {}, recipe.source_line)]
    for step in recipe.steps:
        before = stage
        stage = run.found_step(step, before.snapshot) if before else None
        rows = before.snapshot.kept if before else None
        grain = step.grain_in if step.grain_in == step.grain_out else f"{step.grain_in} → {step.grain_out}"
        parameters = changed(step.operator)
        kept = stage.snapshot.kept if stage else None
        found.append(Outlook(step.operator.name, step.key, grain, stage is not None, rows, kept, 0, parameters, step.line))
    return found


def render(steps: list[Outlook], width: int = 140) -> "Table":
    """The outlook as a table for people. width: columns of the terminal; a narrow one is not told the parameters."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("step", "state", "rows in", "kept", "rows are", *(("parameters",) if width >= WIDE else ())):
        justify: Literal["left", "right"] = "right" if title in ("rows in", "kept") else "left"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=title in ("step", "state"))
    for step in steps:
        name = step.step if step.step == step.operator else f"{step.step} ({step.operator})"
        numbers = ["" if n is None else f"{n:,}" for n in (step.rows, step.kept)]
        more = [_flow(step.parameters)] if width >= WIDE else []
        table.add_row(name, "done before" if step.done else "to do", *numbers, step.grain, *more)
    calls = sum(step.calls for step in steps)
    todo = sum(not step.done for step in steps)
    table.caption = f"{todo} of {len(steps)} to do; model calls: {calls or 'none'}; cost: {'unknown' if calls else 'none'}"
    table.caption_justify = "left"
    return table


def _flow(parameters: dict[str, Any]) -> str:
    """Parameters as a recipe writes them on one line."""
    import yaml

    if not parameters:
        return ""
    text = yaml.safe_dump(parameters, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return visible(text.strip()[1:-1])
