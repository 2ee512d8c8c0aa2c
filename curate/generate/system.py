"""What the system message of a request says: a principle, a text, a direction in the space of ratings, or a goal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from curate.generate.messages import Message
from curate.generate.wording import filled, instruction, number_of, pick, principles, share_of

SHARES = {"helpfulness": 0.6, "truthfulness": 0.2, "honesty": 0.18, "verbalised_calibration": 0.02}
"""How often each principle is drawn: UltraFeedback's shares for conversations."""


class Direction(BaseModel):
    """A direction in the space of ratings, given to the model as whole numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attributes: tuple[str, ...] = Field(default=("helpfulness", "verbosity"), min_length=2, description="What is rated.")
    angles: tuple[FiniteFloat, FiniteFloat] = Field(
        default=(-45.0, 45.0), description="Two attributes: degrees between which the direction is drawn; 0 is the first alone."
    )
    weights: tuple[FiniteFloat, ...] | None = Field(default=None, description="One direction for all, instead of drawing it.")

    @model_validator(mode="after")
    def _points_somewhere(self) -> Self:
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError(f"attributes differ from each other, got {', '.join(self.attributes)}")
        if self.weights is None and len(self.attributes) != 2:
            raise ValueError(f"angles are drawn for two attributes, got {len(self.attributes)}: give weights")
        if self.weights is not None and (len(self.weights) != len(self.attributes) or not any(self.weights)):
            raise ValueError("weights need one number for each attribute, not all zero")
        if self.angles[0] > self.angles[1]:
            raise ValueError(f"angles must ascend, got {list(self.angles)}")
        return self

    def drawn(self, share: float) -> dict[str, int]:
        """The weights, hundredths of a unit vector, for a draw in [0, 1)."""
        if self.weights is not None:
            vector: Sequence[float] = self.weights
        else:
            angle = math.radians(self.angles[0] + share * (self.angles[1] - self.angles[0]))
            vector = (math.cos(angle), math.sin(angle))
        length = math.hypot(*vector)
        return {name: round(100 * value / length) for name, value in zip(self.attributes, vector, strict=True)}


class System(BaseModel):
    """What the system message says; one of the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    principles: dict[str, FiniteFloat] | None = Field(
        default=None, min_length=1, description="Shares of curate's principles, such as {honesty: 0.5, helpfulness: 0.5}."
    )
    texts: tuple[str, ...] | None = Field(default=None, min_length=1, description="Texts of your own; one is drawn.")
    direction: Direction | None = Field(default=None, description="A direction in reward space.")
    goal: dict[str, FiniteFloat | tuple[int, int]] | None = Field(
        default=None, min_length=1, description="Target scores by name: a number, or [lowest, highest] to draw a whole one."
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        told = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(told) != 1:
            raise ValueError(f"system is one of principles, texts, direction and goal, got {', '.join(told) or 'none'}")
        if self.principles is not None:
            unknown = sorted(set(self.principles) - set(principles()))
            if unknown:
                raise ValueError(f"no principle is called {unknown[0]}; there are {', '.join(principles())}")
            if min(self.principles.values()) < 0 or not any(self.principles.values()):
                raise ValueError("shares of principles are at least 0, and one is above")
        if self.texts is not None and not all(text.strip() for text in self.texts):
            raise ValueError("texts are not empty; for no system message leave `system` out")
        for name, target in (self.goal or {}).items():
            if isinstance(target, tuple) and target[0] > target[1]:
                raise ValueError(f"goal, {name}: [lowest, highest] must ascend, got {list(target)}")
        return self

    def drawn(self, *about: Any) -> tuple[str, dict[str, Any]]:
        """The text for a row and model, and what `meta` tells of it."""
        share, second = share_of("system", *about), share_of("wording", *about)
        if self.principles is not None:
            name = weighted(self.principles, share)
            return pick(principles()[name], second), {"principle": name}
        if self.texts is not None:
            return pick(self.texts, share), {}
        if self.direction is not None:
            weights = self.direction.drawn(share)
            terms = "".join(f" {'-' if weight < 0 else '+'} {abs(weight)} × {name}" for name, weight in weights.items())
            text = filled(instruction("direction"), attributes=" and ".join(weights), weighted=terms.removeprefix(" + ").strip())
            return text, {"direction": weights}
        assert self.goal is not None
        goals = {
            name: target if not isinstance(target, tuple) else target[0] + number_of(*about, name) % (target[1] - target[0] + 1)
            for name, target in self.goal.items()
        }
        lines = "\n".join(f"{name}: {value:g}" for name, value in goals.items())
        return filled(instruction("goal"), goals=lines), {"goal": goals}


def weighted(shares: Mapping[str, float], share: float) -> str:
    """The name at a point of the shares laid end to end."""
    names = sorted(name for name in shares if shares[name] > 0)
    ends = np.cumsum([shares[name] for name in names])
    return names[min(int(np.searchsorted(ends, share * ends[-1], side="right")), len(names) - 1)]


def with_system(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """The messages with a system message; one that is there already is added to."""
    if messages and messages[0]["role"] == "system":
        return ({**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:])
    return ({"role": "system", "content": text}, *messages)
