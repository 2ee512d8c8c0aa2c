"""Say a goal in words, so that a model trained on text can be asked for it."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import tables

SINGLE = "score"  # the goal step's name for the one goal of a recipe that gave it none


def scale_of(manifest: dict[str, Any]) -> tuple[float, float] | None:
    """Lowest and highest goal, as the version's last goal step has it; None if it gave no scale."""
    steps = [step for step in manifest.get("steps", []) if step["operator"] == "goal"]
    scale = steps[-1]["parameters"].get("scale") if steps else None
    return (scale[0], scale[1]) if scale else None


def goal_texts(goals: pa.Array | pa.ChunkedArray, scale: tuple[float, float] | None) -> pa.Array:
    """Each goal (JSON objects) in words; null where there is no goal."""
    coded = pc.dictionary_encode(tables.flat(goals))
    words = pa.array([goal_text(json.loads(goal), scale) for goal in coded.dictionary.to_pylist()], pa.string())
    return words.take(coded.indices)


def goal_text(goal: dict[str, float], scale: tuple[float, float] | None) -> str:
    """What tells the model which scores to aim at: a line for each attribute, whole numbers without a decimal point.

    Source: Zhang et al., "Reward-Augmented Data Enhances Direct Preference Alignment of LLMs", 2024, arXiv:2410.08067;
    the wording is ours.
    """
    many = len(goal) > 1
    lines = [
        f"Give a reply that deserves the target score{'s' if many else ''} below, without mentioning {'them' if many else 'it'}."
    ]
    if scale is not None:
        lines[0] += f" Scores run from {number(scale[0])} (worst) to {number(scale[1])} (best)."
    lines += [
        f"{'Overall score' if name == SINGLE and not many else ' '.join(name.split())}: {number(value)}"
        for name, value in goal.items()
    ]
    return "\n".join(lines)


def number(value: float) -> str:
    """8 for 8.0, 7.5 for 7.5."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
