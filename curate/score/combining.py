"""Options of `aggregate` beyond a mean: what a score is held against, what bounds it; and who is missing, in words."""

from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

Finite = Annotated[float, Field(allow_inf_nan=False)]
Preset = Literal["helpsteer2-llama3-70b", "helpsteer2-nemotron4-340b"]


class Decorrelate(BaseModel):
    """Take from the score what it owes to another one, such as length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    against: str = Field(min_length=1, description="Rater, `rater` or `rater:aspect`: features:characters, rm:verbosity.")
    limit: float = Field(default=0.03, ge=0, le=1, description="Largest rank correlation (Spearman) that may be left.")
    each: bool = Field(
        default=False,
        description="Take it from every rater's score before they are made one (ArmoRM); what is made of them may then owe a "
        "little more. A rater that is held against itself counts for nothing.",
    )


class Bound(BaseModel):
    """Hold the score where another one is on the wrong side of a threshold: a wrong answer gets 5 at most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str = Field(min_length=1, description="Rater, `rater` or `rater:aspect`, that decides; a row without it is not bound.")
    below: Finite | None = Field(default=None, description="It applies where that rater's score is below this,")
    above: Finite | None = Field(default=None, description="or above this.")
    at_most: Finite | None = Field(default=None, description="A larger score becomes this.")
    at_least: Finite | None = Field(default=None, description="A smaller score becomes this.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.below is None and self.above is None:
            raise ValueError("a bound needs `below` or `above`, the scores it applies to")
        if self.at_most is None and self.at_least is None:
            raise ValueError("a bound needs `at_most` or `at_least`")
        return self

    def hold(self, score: np.ndarray, decides: np.ndarray) -> np.ndarray:
        """The scores, bound where `decides` says so; NaN stays NaN."""
        applies = np.zeros(len(score), bool)
        if self.below is not None:
            applies |= decides < self.below
        if self.above is not None:
            applies |= decides > self.above
        held = np.clip(
            score, -np.inf if self.at_least is None else self.at_least, np.inf if self.at_most is None else self.at_most
        )
        return np.where(applies, held, score)


def missing_texts(missing_RN: np.ndarray, lacking: np.ndarray, named: list[str]) -> pa.Array:
    """Who is missing where too few are there, in words; null elsewhere."""
    bits = (1 << np.arange(len(named), dtype=np.int64))[:, None]
    codes = np.where(missing_RN[:, lacking], bits, 0).sum(axis=0)
    distinct, which = np.unique(codes, return_inverse=True)
    texts = []
    for code in distinct.tolist():
        absent = [rater for place, rater in enumerate(named) if code >> place & 1]
        texts.append(f"{len(absent)} of {len(named)} raters missing: {', '.join(absent)}")
    at = np.full(len(lacking), -1, dtype=np.int64)
    at[lacking] = which
    return pa.array(texts, pa.string()).take(pa.array(at, mask=at < 0))
