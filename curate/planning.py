"""What a run would do: steps done already, rows to expect. Calls no model and reads no data but hashes of files."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from curate.ids import canonical_json
from curate.recipe import Recipe
from curate.run import Run
from curate.store.store import Store

if TYPE_CHECKING:
    from rich.table import Table


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
    parameters: str
    line: int | None


def outlook(recipe: Recipe, root: Path) -> list[Outlook]:
    """One entry for the source and for each step, in order."""
    run = Run(recipe, Store(root))
    stage = run.found_source()
    kept = stage.snapshot.kept if stage else None
    found = [Outlook("source", "source", recipe.grain, stage is not None, kept, kept, 0, "", recipe.source_line)]
    for step in recipe.steps:
        before = stage
        stage = run.found_step(step, before.snapshot) if before else None
        rows = before.snapshot.kept if before else None
        grain = step.grain_in if step.grain_in == step.grain_out else f"{step.grain_in} → {step.grain_out}"
        parameters = canonical_json(step.operator.model_dump(mode="json", exclude_defaults=True, exclude={"name"}))
        kept = stage.snapshot.kept if stage else None
        found.append(Outlook(step.operator.name, step.key, grain, stage is not None, rows, kept, 0, parameters, step.line))
    return found


def render(steps: list[Outlook]) -> "Table":
    """The outlook as a table for people."""
    from rich.table import Table

    table = Table("step", "operator", "rows are", "state", "rows in", "kept", "parameters", box=None, pad_edge=False)
    for column in (4, 5):
        table.columns[column].justify = "right"
    for step in steps:
        state = "done before" if step.done else "to do"
        numbers = ["" if n is None else f"{n:,}" for n in (step.rows, step.kept)]
        table.add_row(step.step, step.operator, step.grain, state, *numbers, step.parameters)
    calls = sum(step.calls for step in steps)
    todo = sum(not step.done for step in steps)
    table.caption = f"{todo} of {len(steps)} to do; model calls: {calls or 'none'}; cost: {'unknown' if calls else 'none'}"
    table.caption_justify = "left"
    return table
