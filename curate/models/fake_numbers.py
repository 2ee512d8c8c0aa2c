"""Fake models that answer with numbers: rewards that read the hidden quality of a text, and vectors of hashed words."""

import asyncio
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from curate.ids import canonical_json
from curate.models.fake_draws import Draw
from curate.models.fake_settings import Settings
from curate.models.fake_writing import content_of, read_quality, without_thought
from curate.models.openai_backend import Numbers
from curate.models.spec import ModelSpec

VERBOSITY = "verbosity"


class FakeReward:
    """A reward model that reads the hidden quality of a conversation's last message."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.settings = Settings.of(spec)

    async def send(self, messages: Sequence[Mapping[str, Any]]) -> Numbers:
        """The rewards, (1, heads), of one conversation. One try; it never fails."""
        await asyncio.sleep(self.settings.number("delay_s"))
        return Numbers(self.score([messages]))

    async def close(self) -> None:
        """Nothing to free."""

    def score(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> np.ndarray:
        """Rewards, (N, heads) float32, around 8 (quality - 0.5); NaN for a conversation of no messages."""
        heads = self.settings.heads
        rewards = [self._rewards(messages, heads) if messages else [np.nan] * len(heads) for messages in conversations]
        return np.array(rewards, dtype=np.float32).reshape(len(conversations), len(heads))

    def _rewards(self, messages: Sequence[Mapping[str, Any]], heads: Sequence[str]) -> list[float]:
        draw = Draw("reward", self.spec.name, self.spec.revision, list(messages))
        text = without_thought(content_of(messages[-1]))
        truth, length = 8 * (read_quality(text) - 0.5), math.log2((1 + len(text.split())) / 60)
        noise = [self.settings.number("noise") * 6**0.5 * draw.bell() for _ in heads]
        return [(length if head == VERBOSITY else truth) + more for head, more in zip(heads, noise, strict=True)]


class FakeEmbed:
    """An embedding model of hashed words: texts that share words lie near each other."""

    batch_size = 64

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.settings = Settings.of(spec)
        dimensions = int(self.settings.number("dimensions"))

        @lru_cache(maxsize=65536)
        def direction(word: str) -> np.ndarray:
            seed = hashlib.sha256(canonical_json([spec.name, spec.revision, word]).encode("utf-8", "surrogatepass")).digest()
            drawn: np.ndarray = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big"))).standard_normal(dimensions)
            return drawn

        self._direction: Callable[[str], np.ndarray] = direction

    async def send(self, texts: Sequence[str]) -> Numbers:
        """Vectors, (N, D). One try; it never fails."""
        await asyncio.sleep(self.settings.number("delay_s"))
        return Numbers(self.encode(texts))

    async def close(self) -> None:
        """Nothing to free."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, (N, D) float32."""
        vectors = np.zeros((len(texts), int(self.settings.number("dimensions"))), dtype=np.float64)
        for place, text in enumerate(texts):
            for word in re.findall(r"\w+|[^\w\s]", text.lower()) or [""]:
                vectors[place] += self._direction(word)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)
