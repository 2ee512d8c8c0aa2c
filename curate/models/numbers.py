"""Numbers that models give, rewards and vectors, kept on a shelf beside the ledger: what was computed once is not again."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curate.ids import canonical_json, digest
from curate.models.shelf import KEY_BYTES, VectorShelf
from curate.store import disk

Conversation = Sequence[Mapping[str, Any]]
TEXTS_AT_ONCE = 8192
"""Texts embedded before their vectors are put on the shelf: what a run that is killed computes again at most."""
CONVERSATIONS_AT_ONCE = 512
ONE_HEAD = "reward"
"""Name of the output of a model that has one."""


class Rewards(NamedTuple):
    """What a reward model makes of some conversations."""

    values: np.ndarray
    """(N, heads) float32, raw; NaN where a conversation could not be scored."""
    errors: list[str | None]
    """Why there is none: "kind: detail"; None where there is one."""
    cut: np.ndarray
    """(N,) float32: tokens that were cut off because the model takes no more; 0 for a whole conversation; NaN if not told."""


class Vectors(NamedTuple):
    """What an embedding model makes of some texts."""

    values: np.ndarray
    """(N, D) float32, unit length."""
    cut: np.ndarray
    """(N,) float32: tokens of the text that the model did not read because it takes no more; NaN if not told."""

    @staticmethod
    def joined(parts: "Sequence[Vectors]") -> "Vectors":
        """Those of several portions of texts, behind each other."""
        if not parts:
            return Vectors(np.zeros((0, 0), np.float32), np.zeros(0, np.float32))
        return Vectors(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def failed(conversations: Sequence[Conversation], error: str) -> Rewards:
    """No reward for any, for one reason."""
    count = len(conversations)
    return Rewards(np.full((count, 1), np.nan, np.float32), [error] * count, np.full(count, np.nan, np.float32))


def cut_name(key: str) -> str:
    """Name of the evidence that tells how many tokens a model did not read."""
    return f"{key.replace('.', '_')}_cut"


def shelf_name(identity: Mapping[str, Any]) -> str:
    """The folder of a model's numbers."""
    return digest(dict(identity))[:32]


def key_of(text: str) -> bytes:
    """The key of a text on its model's shelf."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


def kept_vectors(
    shelf: VectorShelf, cuts: VectorShelf, texts: Sequence[str], embed: Callable[[Sequence[str]], Vectors]
) -> Vectors:
    """A vector of unit length for each text; those not on the shelf are computed, each text once, and put there.

    They are kept as float16 and every reader, the first included, is given the same rounded ones (cosine to what was computed
    above 1 - 1e-6). What was cut off is kept on a shelf of its own, and not told of vectors that are older than it.
    """
    keys = [key_of(text) for text in texts]
    _, found = shelf.get(keys)
    missing = list({key: text for key, text, there in zip(keys, texts, found, strict=True) if not there}.items())
    for start in range(0, len(missing), TEXTS_AT_ONCE):
        part = missing[start : start + TEXTS_AT_ONCE]
        made = embed([text for _, text in part])
        cuts.put([key for key, _ in part], made.cut[:, None].astype(np.float32))  # leaves out those that are not told
        shelf.put([key for key, _ in part], made.values.astype(np.float16))
    vectors = shelf.get(keys)[0].astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(lengths == 0, 1, lengths)
    cut = cuts.get(keys)[0]
    return Vectors(unit, cut[:, 0] if cut.shape[1] else np.full(len(keys), np.nan, np.float32))


def kept_rewards(
    shelf: VectorShelf, conversations: Sequence[Conversation], score: Callable[[Sequence[Conversation]], Rewards]
) -> Rewards:
    """Rewards of conversations; those not on the shelf are computed, each conversation once, and put there unless they failed.

    A row of the shelf holds the heads and then the tokens cut, below zero if not told.
    """
    keys = [key_of(canonical_json([dict(message) for message in conversation])) for conversation in conversations]
    rows, found = shelf.get(keys)
    missing = list({key: one for key, one, there in zip(keys, conversations, found, strict=True) if not there}.items())
    errors: dict[bytes, str | None] = {}
    for start in range(0, len(missing), CONVERSATIONS_AT_ONCE):
        part = missing[start : start + CONVERSATIONS_AT_ONCE]
        made = score([conversation for _, conversation in part])
        errors |= {key: error for (key, _), error in zip(part, made.errors, strict=True) if error is not None}
        stored = np.column_stack([made.values, np.where(np.isnan(made.cut), -1, made.cut)]).astype(np.float32)
        good = [place for place, error in enumerate(made.errors) if error is None]
        shelf.put([part[place][0] for place in good], stored[good])
    if missing:
        rows, found = shelf.get(keys)
    if rows.shape[1] == 0:
        rows = np.full((len(keys), 2), np.nan, np.float32)
    told = [
        None if there else errors.get(key, "engine: the model gave a number that is none")
        for key, there in zip(keys, found, strict=True)
    ]
    return Rewards(rows[:, :-1], told, np.where(rows[:, -1] < 0, np.nan, rows[:, -1]).astype(np.float32))


def head_names(told: str | None, count: int) -> tuple[str, ...]:
    """Names of a model's outputs: as the option `heads` has them, else `reward`, or reward_0, reward_1, ... of several."""
    names = tuple(name.strip() for name in told.split(",")) if told else ()
    if len(names) == count:
        return names
    return (ONE_HEAD,) if count == 1 else tuple(f"{ONE_HEAD}_{place}" for place in range(count))


@dataclass(frozen=True)
class LocalRewardModel:
    """A reward model of this process; it is loaded when something is to be computed, once."""

    load: Callable[[], Any]
    shelf: VectorShelf

    def score(self, conversations: Sequence[Conversation]) -> np.ndarray:
        """Raw rewards, (N, heads) float32; NaN where a conversation could not be scored."""
        return self.rewards(conversations).values

    def score_or_error(self, conversations: Sequence[Conversation]) -> tuple[np.ndarray, list[str | None]]:
        """Rewards, and why a row has none, or None."""
        found = self.rewards(conversations)
        return found.values, found.errors

    def rewards(self, conversations: Sequence[Conversation]) -> Rewards:
        """Rewards, errors and tokens cut; what was computed before is read."""
        return kept_rewards(self.shelf, conversations, self._compute)

    def heads(self, count: int) -> tuple[str, ...]:
        """Names of its outputs; they stand beside what was computed, so that reading it loads no model."""
        if count == 1 and not self._names_file.exists():
            return (ONE_HEAD,)
        if self._names_file.exists():
            return tuple(json.loads(self._names_file.read_text(encoding="utf-8")))
        names: tuple[str, ...] = self.load().heads
        return names

    @property
    def _names_file(self) -> Path:
        return self.shelf.folder / "heads.json"

    def _compute(self, conversations: Sequence[Conversation]) -> Rewards:
        model = self.load()
        if not self._names_file.exists():
            disk.write_file(self._names_file, json.dumps(model.heads).encode(), self.shelf.folder)
        found: Rewards = model.score(conversations)
        return found


@dataclass(frozen=True)
class LocalEmbedModel:
    """An embedding model of this process; it is loaded when something is to be computed, once."""

    load: Callable[[], Any]
    shelf: VectorShelf
    cuts: VectorShelf
    likeness: str
    """What nearness means: `lexical` (shared words and spelling) or `semantic`."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors, (N, D) float32, unit length."""
        return self.vectors(texts).values

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """The same, and how many tokens of each text were not read."""
        return kept_vectors(self.shelf, self.cuts, texts, lambda missing: self.load().vectors(missing))
