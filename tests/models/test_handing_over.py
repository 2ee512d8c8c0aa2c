"""Handing requests over: the event loop comes first where it has enough to send, and the requests where it has not."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.models import caller as module
from curate.models.asking import Attempt, Reply, Request
from curate.models.caller import Caller
from curate.models.jobs import Asked
from curate.models.lane import Lane
from curate.models.ledger import Ledger
from curate.models.limits import Rules


class Silent:
    """Never answers."""

    async def send(self, request: Request) -> Attempt:
        await asyncio.Event().wait()
        return Attempt(Reply(text="never"))

    async def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    monkeypatch.setattr(module, "COURTESY_SECONDS", 30.0)
    with Ledger(tmp_path / "ledger") as ledger:
        caller = Caller(ledger)
        yield caller
        caller.close(grace=0)


def lane_with(caller: Caller, queued: int) -> Lane:
    """A lane with two requests in flight and so many that wait."""
    lane = caller.lane("m", Silent(), {"name": "m"}, Rules(concurrency=2, max_concurrency=2))
    begin(caller, lane, "first", 2 + queued)
    told = threading.Event()
    caller.loop.call_soon_threadsafe(told.set)
    assert told.wait(5) and lane.waiting == 2 + queued
    return lane


def begin(caller: Caller, lane: Lane, of: str, count: int) -> Asked:
    return caller.begin(lane, [Request(({"role": "user", "content": f"{of} {number}"},)) for number in range(count)])


def order(caller: Caller, lane: Lane) -> list[str]:
    """What ends first: handing over one request, or what the event loop is at meanwhile."""
    ended: list[str] = []
    begun = threading.Event()

    def at_work() -> None:
        begun.wait(0.5)
        ended.append("loop")

    caller.loop.call_soon_threadsafe(at_work)
    begin(caller, lane, "further", 1)
    ended.append("begin")
    begun.set()
    told = threading.Event()
    caller.loop.call_soon_threadsafe(told.set)
    assert told.wait(5)
    return ended


def test_where_enough_is_queued_the_event_loop_comes_first(caller: Caller) -> None:
    assert order(caller, lane_with(caller, queued=2)) == ["loop", "begin"]


def test_where_too_little_is_queued_requests_come_first(caller: Caller) -> None:
    assert order(caller, lane_with(caller, queued=1)) == ["begin", "loop"]
