"""What a run would do: steps done already, rows to expect. Calls no model and reads no data but hashes of files."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from curate.models.ledger_spent import grouped
from curate.models.operator import ModelOperator
from curate.publish.wording import visible
from curate.recipe import Recipe, Step
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
    calls: int | None
    """Model calls to expect at most (what the ledger holds is not asked again); 0 for a step that is done; None if the rows
    are not known yet."""
    cost_usd: float | None
    """What they cost at the average price of this store's earlier calls of the same models; None if there are none."""
    estimated: bool
    """Whether calls rest on a guess of the rows: those of steps not done yet are taken to pass everything on."""
    parameters: dict[str, Any]
    """Those that differ from their defaults."""
    line: int | None


def outlook(recipe: Recipe, root: Path) -> list[Outlook]:
    """One entry for the source and for each step, in order."""
    run = Run(recipe, Store(root))
    prices = mean_costs(root)
    stage = run.found_source()
    kept = expected = stage.snapshot.kept if stage else None
    found = [Outlook("source", "source", recipe.grain, stage is not None, kept, kept, 0, 0.0, False, {}, recipe.source_line)]
    for step in recipe.steps:
        before = stage
        stage = run.found_step(step, before.snapshot) if before else None
        rows, given = (before.snapshot.kept if before else None), expected
        kept = stage.snapshot.kept if stage else None
        expected = kept if stage else passed_on(step, given)
        calls = 0 if stage else calls_of(step, given)
        names = [recipe.models[key].name for key in step.operator.models()]
        grain = step.grain_in if step.grain_in == step.grain_out else f"{step.grain_in} → {step.grain_out}"
        about = (changed(step.operator), step.line)
        cost, guessed = cost_of(calls, names, prices), bool(calls) and rows is None
        found.append(Outlook(step.name, step.key, grain, stage is not None, rows, kept, calls, cost, guessed, *about))
    return found


def calls_of(step: Step, rows: int | None) -> int | None:
    """Model calls of a step that is given so many rows."""
    if not isinstance(step.operator, ModelOperator):
        return 0
    return None if rows is None else step.operator.calls(rows)


def passed_on(step: Step, rows: int | None) -> int | None:
    """Rows to expect after a step that is not done: one a call where it generates, a pair of two responses, else as many."""
    if rows is None or step.grain_in == step.grain_out:
        return rows
    return rows // 2 if step.grain_out == "pairs" else calls_of(step, rows)


def mean_costs(root: Path) -> dict[str, float]:
    """US dollars an answered call of each model has cost in this store, by the model's name."""
    from curate.models.ledger import Ledger

    if not (root / "ledger").is_dir():
        return {}
    with closing(Ledger(root / "ledger")) as ledger:
        spent = grouped(ledger.spent(), "model")
    return {row.model: row.cost_usd / row.answered for row in spent if row.model and row.answered}


def cost_of(calls: int | None, names: list[str], prices: dict[str, float]) -> float | None:
    """What calls shared evenly by models cost; None if a price is not known."""
    if not calls:
        return 0.0 if calls == 0 else None
    known = [prices[name] for name in names if name in prices]
    return calls * sum(known) / len(known) if known and len(known) == len(names) else None


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
    todo = sum(not step.done for step in steps)
    table.caption = f"{todo} of {len(steps)} to do; {_calls(steps)}"
    table.caption_justify = "left"
    return table


def _calls(steps: list[Outlook]) -> str:
    """The calls of all steps, and what they cost."""
    if any(step.calls is None for step in steps):
        return "model calls: known once the source is read (`curate run --limit 20` reads it and tries the steps)"
    calls = sum(step.calls or 0 for step in steps)
    if not calls:
        return "model calls: none; cost: none"
    costs = [step.cost_usd for step in steps]
    total = sum(cost for cost in costs if cost is not None)
    about = "about " if any(step.estimated for step in steps) else "at most "
    cost = f"about ${total:,.4f}" if None not in costs else "unknown, no call of these models was paid for yet"
    return f"model calls: {about}{calls:,}; cost: {cost}"


def _flow(parameters: dict[str, Any]) -> str:
    """Parameters as a recipe writes them on one line."""
    import yaml

    if not parameters:
        return ""
    text = yaml.safe_dump(parameters, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return visible(text.strip()[1:-1])
