"""What `generate`, `rewrite` and `perturb` share: how they ask, and how they keep what went wrong."""

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, PrivateAttr

from curate import tables
from curate.generate.wording import number_of
from curate.ids import canonical_json, digest
from curate.models.asking import Models, Reply, Request, Sampling
from curate.models.operator import ModelOperator

SEED_BITS = 31  # servers differ in how large a seed may be; all take these
THOUGHT = re.compile(r"\s*<think>(?P<thought>.*?)(?:</think>\s*|\Z)(?P<rest>.*)", re.DOTALL)
Message = dict[str, Any]


class Sampled(ModelOperator):
    """A step that draws texts from chat models."""

    _known: dict[str, tuple[str, str]] = PrivateAttr(default_factory=dict)

    temperature: FiniteFloat | None = Field(default=None, ge=0, description="Sampling temperature; the model's own if not given.")
    top_p: FiniteFloat | None = Field(default=None, gt=0, le=1, description="Share of probability that tokens are drawn from.")
    max_tokens: int | None = Field(default=None, ge=1, description="Longest reply in tokens; the model's own limit if not given.")
    seed: int | None = Field(
        default=0, ge=0, description="What all draws and the seeds of requests follow from; null: requests carry no seed."
    )

    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)

    def seed_for(self, row: str | None, key: str, sample: int, *more: Any) -> int | None:
        """The seed of one request: the same for the same row, model and sample, whatever else is asked."""
        if self.seed is None:
            return None
        return number_of("seed", self.seed, row, self.told_apart(key), sample, *more) >> (64 - SEED_BITS)

    def with_models(self, models: Models) -> Self:
        """A copy that can call the recipe's models."""
        ready = super().with_models(models)
        ready._known = {}
        return ready

    def told_apart(self, key: str) -> str:
        """What stands for a model in draws: renaming its key in a recipe changes nothing."""
        return self._about(key)[0]

    def model_name(self, key: str) -> str:
        """The model's name, as rows carry it."""
        return self._about(key)[1]

    def _about(self, key: str) -> tuple[str, str]:
        """What stands for a model, and its name; found out once, for every row asks."""
        # twice a row: pydantic's own way to a private attribute costs more than the rest of it
        known: dict[str, tuple[str, str]] = (self.__pydantic_private__ or {}).get("_known", {})
        if key not in known:
            identity = dict(self.called.identity(key))
            known[key] = digest(identity), str(identity.get("name") or key)
        return known[key]

    def ask(self, wanted: Sequence[tuple[str, Request]]) -> list[Reply]:
        """A reply for each (model key, request), in order; the models answer side by side."""
        places: dict[str, list[int]] = {}
        for place, (key, _) in enumerate(wanted):
            places.setdefault(key, []).append(place)
        replies: list[Reply | None] = [None] * len(wanted)
        with ThreadPoolExecutor(max_workers=max(1, len(places))) as pool:
            asked = [pool.submit(self.called.chat(key).reply, [wanted[at][1] for at in where]) for key, where in places.items()]
            for where, batch in zip(places.values(), asked, strict=True):
                for at, reply in zip(where, batch.result(), strict=True):
                    replies[at] = reply
        assert all(reply is not None for reply in replies)
        return [reply for reply in replies if reply is not None]


def error_text(reply: Reply) -> str | None:
    """The error as a score keeps it: its kind, then its words; None for an answer."""
    return None if reply.error is None else storable(f"{reply.error}: {reply.detail or 'no answer'}")


def split_thought(text: str) -> tuple[str | None, str]:
    """Reasoning between <think> and </think> at the beginning, and the rest; one that does not end is all there is."""
    found = THOUGHT.fullmatch(text)
    return (found["thought"].strip() or None, found["rest"]) if found else (None, text)


def storable(text: str) -> str:
    """The text as a table may hold it: no NUL, no half characters."""
    if "\0" not in text and text.isascii():
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def said(reply: Reply) -> str:
    """What a model says when it is done thinking; empty for no answer."""
    return storable(split_thought(reply.text or "")[1].strip())


def plain(message: Mapping[str, Any]) -> str:
    """The text of a message, without images."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content if part["type"] == "text")


def without_nulls(message: Mapping[str, Any]) -> Message:
    """A stored message as a server takes it: only what it has, tool calls as values."""
    kept = {name: value for name, value in message.items() if value is not None}
    if "tool_calls" in kept:
        kept["tool_calls"] = json.loads(kept["tool_calls"])
    return kept


def stored(message: Mapping[str, Any]) -> Message:
    """The inverse of without_nulls."""
    if "tool_calls" in message:
        return {**message, "tool_calls": canonical_json(message["tool_calls"])}
    return dict(message)


def with_errors(lists: Any, by: str, aspect: str, errors: Sequence[tuple[int, str]]) -> pa.Array:
    """The score column with a null score for each (row number, error), rows ascending."""
    entries = tables.structs(tables.SCORE, len(errors), rater=by, aspect=aspect, error=[error for _, error in errors])
    return tables.append(lists, entries, np.array([row for row, _ in errors], dtype=np.int64))


def meta_with(meta: str | None, more: Mapping[str, Any]) -> str | None:
    """The meta column's JSON object with more fields."""
    return canonical_json({**(json.loads(meta) if meta else {}), **more}) if more else meta
