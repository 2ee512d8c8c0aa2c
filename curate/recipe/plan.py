"""Say what a recipe will do, step by step, without doing it."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from curate.recipe.reader import Recipe


@dataclass(frozen=True)
class PlannedStep:
    """A line of `curate plan`."""

    step: str
    operator: str
    grain_in: str
    """Empty for the source."""
    grain_out: str
    parameters: dict[str, Any]
    """Those that differ from their defaults, the name left out, as plain JSON."""
    line: int


def describe(recipe: Recipe) -> list[PlannedStep]:
    """The source and every step in order."""
    several = len(recipe.source) > 1
    about = {"places": [source.place() for source in recipe.source]} if several else changed(recipe.source[0])
    first = PlannedStep("source", "source", "", recipe.grain, about, recipe.source_line)
    return [first] + [
        PlannedStep(step.name, step.key, step.grain_in, step.grain_out, changed(step.operator), step.line)
        for step in recipe.steps
    ]


def changed(model: BaseModel) -> dict[str, Any]:
    """Fields that differ from their defaults, under the names a recipe uses, but `name`."""
    dumped = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {key: value for key, value in dumped.items() if key != "name"}
