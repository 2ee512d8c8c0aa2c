"""The options of a fake model.

Settings of a model under `options`:

    quality        mean hidden quality of what it writes (0.6); spread: largest distance from the mean (0.3)
    words          mean length of a reply (60)
    truncate_share share of replies that are four times as long, so that max_tokens cuts them (0)
    refuse_share   share of requests it declines: error `refused`, for good (0)
    fail_share     share of tries that fail with the retryable error `fail_kind` ("server"); every try draws anew (0)
    delay_s        seconds a reply takes (0)
    reasoning      true: reasoning beside the text; "tags": within it, as <think>…</think>
    template       text around each reply, which takes the place of {text}
    sprinkle       share of sentences in another language or script (0.05)
    wrong_share    share of wrong results where the prompt is a small sum such as 17 + 25 (0.3)
    accuracy       as a judge: probability that its order of the candidates is right (0.9)
    position_bias  as a judge: probability that the first candidate wins whatever it says; below 0: the last (0)
    length_bias    as a judge: quality added for each doubling of a text's length over 60 words (0)
    tie_margin     as a judge: qualities closer than this are a tie where the verdict allows one (0.02)
    heads          as a reward model: rewards a text (1), or their names, commas between; one called `verbosity` grows with
                   the text's length instead of its quality; noise: their standard deviation around the truth (0.5)
    dimensions     as an embedding model: length of a vector (64)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from curate.errors import UsageError
from curate.models.asking import ErrorKind
from curate.models.limits import CALLER_OPTIONS
from curate.models.spec import ModelSpec

DEFAULTS: dict[str, float | str | bool] = {
    "quality": 0.6,
    "spread": 0.3,
    "words": 60,
    "truncate_share": 0.0,
    "refuse_share": 0.0,
    "fail_share": 0.0,
    "fail_kind": "server",
    "delay_s": 0.0,
    "reasoning": False,
    "template": "{text}",
    "sprinkle": 0.05,
    "wrong_share": 0.3,
    "accuracy": 0.9,
    "position_bias": 0.0,
    "length_bias": 0.0,
    "tie_margin": 0.02,
    "heads": 1,
    "noise": 0.5,
    "dimensions": 64,
}
SHARE, SIZE, COUNT = (0.0, 1.0, False), (0.0, math.inf, False), (1.0, math.inf, True)
LIMITS: dict[str, tuple[float, float, bool]] = {
    **dict.fromkeys(("quality", "truncate_share", "refuse_share", "fail_share", "sprinkle", "wrong_share", "accuracy"), SHARE),
    **dict.fromkeys(("spread", "words", "delay_s", "tie_margin", "noise"), SIZE),
    "position_bias": (-1.0, 1.0, False),
    **dict.fromkeys(("heads", "dimensions"), COUNT),
}
"""Lowest and highest value of options that are numbers, and whether they are whole; those left out may be any number."""
NEVER_ANSWERED = frozenset({"fail_share", "fail_kind", "delay_s"})
"""Options that change when an answer comes, not what it says."""


def answer_options(spec: ModelSpec) -> dict[str, Any]:
    """The options that change what is answered: they belong to a model's identity in the ledger and in a step's key.

    UsageError for an option that there is not, or with a value that it cannot have.
    """
    Settings.of(spec)  # `curate plan` asks for the identity and for nothing else
    return {
        name: value
        for name, value in sorted(spec.options.items())
        if name in DEFAULTS and name not in NEVER_ANSWERED and value is not None
    }


def fault(name: str, value: Any) -> str | None:
    """What an option has to be, where a value is not that; None if it fits."""
    if name == "fail_kind":
        return None if value in get_args(ErrorKind) else f"one of {', '.join(get_args(ErrorKind))}"
    if name == "reasoning":
        return None if value in (True, False, "tags") else "true, false or tags"
    if name == "template":
        return None if isinstance(value, str) else "a text"
    if name == "heads" and isinstance(value, str):
        return None if all(part.strip() for part in value.split(",")) else "a number, or names with commas between"
    low, high, whole = LIMITS.get(name, (-math.inf, math.inf, False))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "a number"
    if whole and value != int(value):
        return "a whole number"
    if not low <= value <= high:
        return f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
    return None


@dataclass(frozen=True)
class Settings:
    """A fake model's options with their defaults, checked."""

    told: Mapping[str, Any]

    @staticmethod
    def of(spec: ModelSpec) -> "Settings":
        """The settings of a model; an unknown option or one of the wrong kind is an error."""
        unknown = sorted(set(spec.options) - set(DEFAULTS) - CALLER_OPTIONS)
        if unknown:
            raise UsageError(
                f"model {spec.name}: no option {unknown[0]!r} for the fake back end; there are {', '.join(DEFAULTS)}"
            )
        given = {name: value for name, value in spec.options.items() if name in DEFAULTS and value is not None}
        for name, value in given.items():
            if (wanted := fault(name, value)) is not None:
                raise UsageError(f"model {spec.name}: option {name} is {wanted}, got {value!r}")
        return Settings({**DEFAULTS, **given})

    def number(self, name: str) -> float:
        """A setting that is a number."""
        return float(self.told[name])

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of a reward model's outputs, as far as they were told; else as many empty ones."""
        told = self.told["heads"]
        return tuple(name.strip() for name in told.split(",")) if isinstance(told, str) else ("",) * int(told)
