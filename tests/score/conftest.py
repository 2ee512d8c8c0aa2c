"""Judges that need no server: the fake back end, or one that answers as a test says."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from curate.models.asking import Attempt, Backend, Reply, Request
from curate.models.fake import FakeBackend
from curate.models.spec import ModelSpec

Script = Callable[[Request], Reply | str]


class Scripted:
    """A back end that answers as a function says: with a text or a whole reply."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def send(self, request: Request) -> Attempt:
        answer = self.script(request)
        return Attempt(answer if isinstance(answer, Reply) else Reply(text=answer, finish_reason="stop"))

    async def close(self) -> None:
        pass


class Bench:
    """The models of a recipe, each asked directly; keeps what was asked."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self.backends = backends
        self.asked: dict[str, list[Request]] = {key: [] for key in backends}
        self.batches: dict[str, list[int]] = {key: [] for key in backends}
        self.disowned: dict[str, list[Request]] = {key: [] for key in backends}

    def chat(self, key: str) -> "Bench.One":
        return Bench.One(self, key)

    def identity(self, key: str) -> Mapping[str, Any]:
        return {"name": key, "revision": None, "kind": "chat"}

    def reward(self, key: str) -> Any:
        raise KeyError(key)

    def embed(self, key: str) -> Any:
        raise KeyError(key)

    class One:
        def __init__(self, bench: "Bench", key: str) -> None:
            self.bench, self.key = bench, key

        def disown(self, requests: Sequence[Request]) -> None:
            self.bench.disowned[self.key] += requests

        def reply(self, requests: Sequence[Request]) -> list[Reply]:
            self.bench.asked[self.key] += requests
            self.bench.batches[self.key].append(len(requests))

            async def all_of_them() -> list[Attempt]:
                return await asyncio.gather(*(self.bench.backends[self.key].send(request) for request in requests))

            return [attempt.reply for attempt in asyncio.run(all_of_them())]


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """Models by key: a function that answers requests, or the options of a fake."""

    def make(**models: Script | Mapping[str, Any]) -> Bench:
        return Bench(
            {
                key: Scripted(model) if callable(model) else FakeBackend(ModelSpec(backend="fake", name=key, options=dict(model)))
                for key, model in models.items()
            }
        )

    return make
