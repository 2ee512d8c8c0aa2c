"""Draws that a fake model makes: they follow from what it is asked."""

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from curate.ids import canonical_json


class Draw:
    """Draws that follow from a text: the same on every machine and in every version of Python."""

    def __init__(self, *about: Any) -> None:
        seed = hashlib.sha256(canonical_json(about).encode("utf-8", "surrogatepass")).digest()
        self._random = random.Random(int.from_bytes(seed, "big"))

    def share(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def happens(self, share: float) -> bool:
        """Whether something of that probability happens."""
        return self.share() < share

    def pick(self, among: Sequence[Any]) -> Any:
        """One of several."""
        return among[int(self.share() * len(among))]

    def bell(self) -> float:
        """A number in (-1, 1), near zero more often."""
        return self.share() + self.share() - 1

    def shuffled(self, among: Sequence[Any]) -> list[Any]:
        """All of them in another order."""
        return [item for _, item in sorted(((self.share(), i), item) for i, item in enumerate(among))]
