"""Versions to look at, made by real operators from a few rows that can be checked by eye."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa

from curate import ids, tables
from curate.engine.shard import load, save
from curate.filter.exact_duplicate import ExactDuplicate
from curate.filter.margin import Margin
from curate.ids import digest
from curate.operator import Operator
from curate.pair.pair import Pair
from curate.publish.version import Publication, Stage, publish
from curate.relabel.goal import Goal
from curate.store.store import Snapshot, Store
from curate.store.versions import Version
from curate.tables import Grain

RECIPE = """\
name: demo
source: {path: answers.jsonl}
steps:
  - exact_duplicate: {}
  - pair: {by: rm, how: all_gap}
  - margin:
      by: rm
      min: 2
"""
SECRET = "'\"<script>alert(1)</script>|`\u202e ```` مرحبا 😀"


class Recipe(NamedTuple):
    """What publishing needs of a recipe."""

    name: str
    text: str


def answer(prompt: str, response: str | None, score: float | None, **more: Any) -> dict[str, Any]:
    """A candidate, scored by the rater rm."""
    messages = [{"role": "user", "content": prompt}]
    prompt_id = ids.prompt_id(messages)
    scores = [{"rater": "rm", "aspect": "help", "value": score}]
    row = {"prompt_id": prompt_id, "prompt": messages, "response": response, "model": "m1", "source": "answers", "scores": scores}
    row |= more
    return row | {"response_id": ids.response_id(prompt_id, response, row["model"])}


def three_prompts() -> list[dict[str, Any]]:
    """Prompt A: good 9, fair 5, bad 1, and good again; prompt B: close 5 and closer 4; prompt C: alone."""
    return [
        answer("A?", "good", 9, license="mit", domain="facts"),
        answer("A?", "fair", 5, model="m2", license="mit", domain="facts"),
        answer("A?", "bad", 1, model="m3", license="mit", domain="facts"),
        answer("A?", "good", 8, model="m2", license="mit", domain="facts"),
        answer("B?", "close", 5, license="mit", domain="maths"),
        answer("B?", "closer", 4, model="m2", license="mit", domain="maths"),
        answer("C?", "alone", 3, license="mit"),
    ]


def steps(minimum: float = 2) -> list[Operator]:
    """The operators of RECIPE."""
    return [
        ExactDuplicate(name="exact_duplicate"),
        Pair(name="pair", by="rm", how="all_gap"),
        Margin(name="margin", by="rm", min=minimum),
    ]


def with_goal(minimum: float = 2) -> list[Operator]:
    """The operators of RECIPE, and goals."""
    return [*steps(minimum), Goal(name="goal", by="rm")]


def make(
    root: Path,
    rows: Sequence[Mapping[str, Any]],
    operators: Sequence[Operator],
    grain: Grain = "responses",
    recipe: str = RECIPE,
    name: str = "demo",
    rejects: Sequence[Mapping[str, Any]] = (),
    publish_anyway: bool = False,
    about: Mapping[str, Any] = MappingProxyType({}),
    **more: Any,
) -> Version:
    """The version that these operators make of the rows. more: of the publication, such as gates."""
    store = Store(root)
    extra: dict[str, Any] = {"rejects": {"read": len(rows) + len(rejects), "rejected": len(rejects), "reasons": {}}}
    if rejects:
        extra |= {"objects": [store.put_table(pa.Table.from_pylist(list(rejects)))]}
        extra["rejects"]["reasons"] = {"no text": len(rejects)}
    snapshot = Snapshot(grain, (store.put_shard(tables.from_rows(rows, grain).drop_columns(["row"])),), None, extra)
    counts = {"rows_in": snapshot.rows, "kept": snapshot.kept, "made": None, "dropped": {}}
    stages = [Stage("source", "source", None, grain, digest("source"), snapshot, counts, 2)]
    for operator in operators:
        stages.append(run_step(store, operator, stages[-1].snapshot, recipe))
    told = {"run": "r", "seconds": 1.5} | dict(about)
    return publish(Publication(store, Recipe(name, recipe), tuple(stages), told, **more), publish_anyway)[0]


def run_step(store: Store, operator: Operator, before: Snapshot, recipe: str) -> Stage:
    """One operator over a snapshot of one shard."""
    table, kept = load(store, operator, before.grain, before.shards[0])
    made = operator(table.filter(pa.array(kept)))  # type: ignore[operator]
    outcome = save(store, operator, before.grain, before.shards[0], table, kept, made)
    left = None
    if outcome.left is not None:
        left = store.put_snapshot(Snapshot(before.grain, (outcome.left,), before.left, before.extra))
    snapshot = Snapshot(operator.makes or before.grain, (outcome.shard,), left)
    line = next((i for i, text in enumerate(recipe.splitlines(), 1) if f"- {operator.name}:" in text), None)
    key = digest([type(operator).__name__, operator.parameters(), before.id])
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(operator).__name__).lower()
    return Stage(operator.name, kind, operator, before.grain, key, snapshot, outcome.counts, line)
