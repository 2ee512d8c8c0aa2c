"""A request on its way to a model, and everybody who waits for it."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from curate.errors import CurateError
from curate.models.asking import Reply, Request


class Stopped(CurateError):
    """The run was told to stop. Every answer that came is in the ledger; the same command goes on from there."""

    exit_code = 130


class Batch:
    """The requests of one call to `ask`, and the thread that waits for them."""

    __slots__ = ("replies", "left", "done", "problem", "__weakref__")

    def __init__(self, count: int) -> None:
        self.replies: list[Reply | None] = [None] * count
        self.left = count
        self.done = threading.Event()
        self.problem: BaseException | None = None

    def put(self, place: int, reply: Reply) -> None:
        """One reply; called with the caller's lock held."""
        self.replies[place] = reply
        self.left -= 1
        if not self.left:
            self.done.set()

    def fail(self, problem: BaseException) -> None:
        """Raise in the thread that waits, unless it has all its replies; called with the caller's lock held."""
        if not self.done.is_set():
            self.problem = problem
            self.done.set()


class Asked:
    """Requests that were handed over. Who forgets it loses nothing: the answers come all the same and are kept."""

    __slots__ = ("_batch",)

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def replies(self) -> list[Reply]:
        """One for each request, in order; blocks until all are there. Raises Stopped, or what broke the program."""
        self._batch.done.wait()
        if self._batch.problem is not None:
            raise self._batch.problem
        return [reply for reply in self._batch.replies if reply is not None]


Flight = tuple[str, int | None]
"""What makes two requests in flight the same: key and max_tokens."""


COUNTS = ("tries", "counted", "bad")


class Job:
    """One request on its way, and everybody who waits for it."""

    __slots__ = ("request", "key", "flight", "step", "waiters", "characters", "cost", "tokens", "began", "last", *COUNTS)

    def __init__(self, request: Any, key: str | None, flight: Flight | None, step: str | None, batch: Batch, place: int) -> None:
        self.request = request
        self.key = key
        self.flight = flight
        self.step = step
        self.waiters: list[tuple[Batch, int]] = [(batch, place)]
        self.characters = 0
        self.cost = self.tokens = 0.0
        """Estimates for the try in flight."""
        self.began = 0.0
        self.tries = self.counted = self.bad = 0
        self.last: Reply | None = None
        """The latest failure."""


def characters(payload: Any) -> int:
    """Characters of what is asked, tool descriptions included."""
    if isinstance(payload, Request):
        return characters(payload.messages) + characters(payload.tools) + characters(payload.response_format)
    if isinstance(payload, str):
        return len(payload)
    if isinstance(payload, Mapping):
        return sum(len(key) + characters(value) for key, value in payload.items())
    return sum(map(characters, payload)) if isinstance(payload, Sequence) else 0


def alike(one: Request, other: Request) -> bool:
    """Whether two requests are samples of one, so that a single call may ask for both: a seed would give both one answer."""
    return one.seed is None and replace(one, sample=other.sample) == other
