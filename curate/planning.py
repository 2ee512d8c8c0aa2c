"""What a run would do: steps done already, rows and model calls to expect.

Calls no model, and reads no data but hashes of files and, where responses are judged together, the ids of their prompts.
"""

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from curate import tables
from curate.engine.earlier import check_versions
from curate.filter.semantic_duplicate import SemanticDuplicate
from curate.filter.texts import DEFAULT_TEXT
from curate.generate.generate import Generate
from curate.generate.perturb import Perturb
from curate.generate.rewrite import Rewrite
from curate.models.ledger_spent import grouped
from curate.models.operator import CallsModels
from curate.models.session import LOCAL
from curate.models.spec import ModelSpec
from curate.pair.pair import Pair
from curate.publish.wording import visible
from curate.recipe import Recipe, Step
from curate.recipe.plan import changed
from curate.refresh import REPLACE
from curate.run import Run
from curate.score.judge import Judge
from curate.score.likelihood import Likelihood
from curate.score.reward import Reward
from curate.store.store import Snapshot, Store
from curate.tables import Grain

if TYPE_CHECKING:
    from rich.table import Table


Groups = Counter[int]
"""How many prompts have so many rows, by that number."""
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
    """Those that differ from their defaults, and a threshold that depends on what is compared."""
    line: int | None
    scored_locally: int | None = 0
    """Texts that models of this process score or measure at most: neither calls nor cost. As `calls` otherwise."""
    lexical: tuple[str, ...] = ()
    """Models that compare words and spelling, not meaning."""


def outlook(recipe: Recipe, root: Path) -> list[Outlook]:
    """One entry for the source and for each step, in order."""
    run = Run(recipe, Store(root))
    check_versions(run.store, (step.operator for step in recipe.steps))
    prices = mean_costs(root)
    stage = run.found_source()
    kept = stage.snapshot.kept if stage else None
    expected = groups_of(run.store, stage.snapshot) if stage else None
    about = ({} if recipe.refresh in (None, REPLACE) else {"refresh": str(recipe.refresh)}, recipe.source_line)
    found = [Outlook("source", "source", recipe.grain, stage is not None, kept, kept, 0, 0.0, False, *about)]
    for step in recipe.steps:
        before = stage
        stage = run.found_step(step, before.snapshot) if before else None
        rows, given = (before.snapshot.kept if before else None), expected
        kept = stage.snapshot.kept if stage else None
        expected = groups_of(run.store, stage.snapshot) if stage else passed_on(step, given)
        used = {key: recipe.models[key] for key in sorted(step.operator.models())}
        calls, scored = (0, 0) if stage else asked_of(step, given, used)
        names = [spec.name for spec in used.values() if not is_local(step, spec)]
        grain = step.grain_in if step.grain_in == step.grain_out else f"{step.grain_in} → {step.grain_out}"
        about = (changed(step.operator) | usual_threshold(step), step.line)
        cost, guessed = cost_of(calls, names, prices), bool(calls or scored) and rows is None
        lexical = tuple(key for key, spec in used.items() if spec.backend == "hashing")
        counts = (rows, kept, calls, cost, guessed, *about, scored, lexical)
        found.append(Outlook(step.name, step.key, grain, stage is not None, *counts))
    return found


def usual_threshold(step: Step) -> dict[str, Any]:
    """The threshold of a step that takes the usual one, where that depends on what is compared."""
    operator = step.operator
    if not isinstance(operator, SemanticDuplicate) or operator.threshold is not None:
        return {}
    return {"threshold": operator.threshold_of(operator.column or DEFAULT_TEXT[step.grain_in])}


def is_local(step: Step, spec: ModelSpec) -> bool:
    """Whether a model answers a step in this process: it is not called, and costs nothing."""
    return spec.backend in LOCAL or (isinstance(step.operator, Likelihood) and spec.backend == "fake")


def asked_of(step: Step, groups: Groups | None, used: Mapping[str, ModelSpec]) -> tuple[int | None, int | None]:
    """Calls, and texts scored in this process; a step of several models asks each the same."""
    here = sum(is_local(step, spec) for spec in used.values())
    total = calls_of(step, groups)
    if not here:
        return total, 0
    if total is None:
        return (0 if here == len(used) else None), None
    return total * (len(used) - here) // len(used), total * here // len(used)


def groups_of(store: Store, snapshot: Snapshot) -> Groups:
    """The sizes of a snapshot's prompts, kept rows alone. Only where responses belong together is anything read."""
    if snapshot.grain != "responses":
        return Counter({1: snapshot.kept})
    sizes: Groups = Counter()
    for shard in snapshot.shards:  # which never split a prompt
        table = store.read_shard(shard, snapshot.grain, ["prompt_id", "flags"])
        sizes.update(Counter(table.filter(tables.is_kept(table))["prompt_id"].to_pylist()).values())
    return sizes


def calls_of(step: Step, groups: Groups | None) -> int | None:
    """Model calls of a step that is given prompts of such sizes; fewer where texts are missing or equal."""
    operator = step.operator
    if not isinstance(operator, CallsModels):
        return 0
    if groups is None:
        return None
    if isinstance(operator, Judge):
        return operator.calls(judged_together(operator, step.grain_in, groups))
    if isinstance(operator, Rewrite) and step.grain_in == "responses" and operator.kind != "back_translate":
        return operator.calls(groups.total())  # each prompt once
    sides = 2 if isinstance(operator, (Likelihood, Reward)) and step.grain_in == "pairs" else 1
    return operator.calls(sides * rows_in(groups))


def judged_together(judge: Judge, grain: Grain, groups: Groups) -> int:
    """Questions that a judge asks for one aspect in one round: one for each text, or for each part that is shown together."""
    rows = rows_in(groups)
    if judge.how != "listwise":
        return 2 * rows if grain == "pairs" else rows
    return rows if grain == "pairs" else sum(count * math.ceil(size / judge.per_call) for size, count in groups.items())


def rows_in(groups: Groups) -> int:
    """Rows of prompts of such sizes."""
    return sum(size * count for size, count in groups.items())


def passed_on(step: Step, groups: Groups | None) -> Groups | None:
    """The sizes to expect after a step that is not done: what it makes at most, else as many as before."""
    if groups is None:
        return None
    operator = step.operator
    if isinstance(operator, Generate):
        return Counter({operator.samples_per_prompt: rows_in(groups)})
    if isinstance(operator, Rewrite):
        each = operator.n + operator.keep_original
        whole = step.grain_in == "prompts" or operator.kind == "back_translate"
        return Counter({1: each * (rows_in(groups) if whole else groups.total())})
    if isinstance(operator, Perturb):
        versions = operator.per_response or len(operator.kinds)
        return Counter({size * (1 + versions): count for size, count in groups.items()})
    if isinstance(operator, Pair):
        return Counter({1: sum(count * pairs_of(operator, size) for size, count in groups.items())})
    return groups


def pairs_of(pair: Pair, size: int) -> int:
    """The most pairs that a prompt of so many responses gives."""
    if pair.how == "adjacent" or pair.how in ("best_worst", "best_random", "best_vs_k"):
        most = size - 1
    elif pair.how in ("correct_incorrect", "tree"):
        most = size // 2  # a guess: which are right is not known; every one of the fewer kind meets another
    else:
        most = size * (size - 1) // 2
    limit = pair.most_per_prompt
    return max(0, most if limit is None else min(most, limit))


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
        name += f" ({', '.join(step.lexical)}: lexical)" if step.lexical else ""
        numbers = ["" if n is None else f"{n:,}" for n in (step.rows, step.kept)]
        more = [_flow(step.parameters)] if width >= WIDE else []
        table.add_row(name, "done before" if step.done else "to do", *numbers, step.grain, *more)
    todo = sum(not step.done for step in steps)
    table.caption = f"{todo} of {len(steps)} to do; {_calls(steps)}"
    table.caption_justify = "left"
    return table


def _calls(steps: list[Outlook]) -> str:
    """The calls of all steps, what they cost, and what needs none."""
    local = [step.scored_locally for step in steps]
    if not any(each != 0 for each in local):
        return _paid(steps)
    about = "about " if any(step.estimated for step in steps) else "at most "
    count = "known once the source is read" if None in local else f"{about}{sum(filter(None, local)):,} texts"
    return f"{_paid(steps)}; scored locally: {count}"


def _paid(steps: list[Outlook]) -> str:
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
