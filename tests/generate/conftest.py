"""Fake models for steps, with a log of what was asked."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from curate import ids, tables
from curate.models.asking import Reply, Request
from curate.models.fake import FakeBackend
from curate.models.spec import ModelSpec

Log = list[tuple[str, Request]]


@dataclass
class FakeChat:
    key: str
    backend: FakeBackend
    log: Log
    tries: int

    def disown(self, requests: Sequence[Request]) -> None:
        """Answers here are used as they come."""

    def reply(self, requests: Sequence[Request]) -> list[Reply]:
        self.log += [(self.key, request) for request in requests]
        return asyncio.run(self._all(requests))

    async def _all(self, requests: Sequence[Request]) -> list[Reply]:
        return [await self._one(request) for request in requests]

    async def _one(self, request: Request) -> Reply:
        for _ in range(self.tries):
            reply = (await self.backend.send(request)).reply
            if reply.error is None:
                break
        return reply


@dataclass
class Fakes:
    """The models of a recipe: all fake, called without ledger and caller."""

    specs: Mapping[str, ModelSpec]
    tries: int = 1
    log: Log = field(default_factory=list)

    def chat(self, key: str) -> FakeChat:
        return FakeChat(key, FakeBackend(self.specs[key]), self.log, self.tries)

    def reward(self, key: str) -> Any:
        raise NotImplementedError

    def embed(self, key: str) -> Any:
        raise NotImplementedError

    def identity(self, key: str) -> Mapping[str, Any]:
        return {"name": self.specs[key].name, "revision": None, "kind": "chat"}

    @property
    def asked(self) -> list[Request]:
        return [request for _, request in self.log]


def fakes(tries: int = 1, **options: Mapping[str, Any]) -> Fakes:
    """Models by key; each named after its key."""
    return Fakes({key: ModelSpec(backend="fake", name=f"{key}-7b", options=told) for key, told in options.items()}, tries)


def prompts(*texts: str, **columns: Any) -> pa.Table:
    """A prompt a text."""
    rows = []
    for text in texts:
        messages = [{"role": "user", "content": text}]
        rows.append({"prompt": messages, "prompt_id": ids.prompt_id(messages), **columns})
    return tables.from_rows(rows, "prompts")


def responses(*texts: str | None, prompt: str = "What is rain?", **columns: Any) -> pa.Table:
    """Responses to one prompt."""
    messages = [{"role": "user", "content": prompt}]
    named = ids.prompt_id(messages)
    rows = [
        {"prompt": messages, "prompt_id": named, "response": text, "response_id": ids.response_id(named, text, place), **columns}
        for place, text in enumerate(texts)
    ]
    return tables.from_rows(rows, "responses")


@pytest.fixture
def made() -> Callable[..., Any]:
    """Rows of a step's result, whatever it makes."""

    def of(result: Any) -> list[dict[str, Any]]:
        return (result if isinstance(result, pa.Table) else result.rows).to_pylist()  # type: ignore[no-any-return]

    return of
