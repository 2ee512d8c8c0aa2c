"""Ask models: from the ledger first, then as fast as each allows, and again what failed.

One event loop in one thread serves all steps and shards of a process. `Caller.ask` blocks its thread until every request has
a reply, `Caller.begin` only hands them over; any number of threads may ask at once, and share each model's limits. What a
server does never raises: it is an error in the reply. What raises is a fault of the program or the disk, or `Stopped`.
"""

import asyncio
import contextlib
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from curate.models.asking import Backend, Reply, Request
from curate.models.interpreter import Tuned
from curate.models.jobs import Asked, Batch, Flight, Job, Stopped
from curate.models.lane import Lane
from curate.models.limits import Rules
from curate.models.spec import Price
from curate.models.spending import Budget, Statistics, total

if TYPE_CHECKING:
    from curate.models.ledger import Ledger

CHUNK = 500
"""Requests handed over at once: the event loop waits for the lock, and for the interpreter, no longer than that takes."""
COURTESY_SECONDS = 0.1
"""How long those who hand over requests wait at most for the event loop to see to what came meanwhile."""
GRACE_SECONDS = 30.0
"""How long calls in flight may take to finish once the run was stopped: they are paid for."""


class Caller:
    """Asks models for all steps and shards of a process. Close it to free the thread and the back ends."""

    def __init__(
        self,
        ledger: "Ledger | None" = None,
        *,
        max_cost: float | None = None,
        max_calls: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self.ledger = ledger
        self.budget = Budget(max_cost, max_calls)
        self.clock = clock
        self.jitter = random.Random(seed)
        self.stopping = False
        self.unpaid = 0
        """Requests that were not sent because the budget was reached."""
        self.loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        """Guards what follows; held for moments only."""
        self._flying: dict[Flight, Job] = {}
        self._batches: weakref.WeakSet[Batch] = weakref.WeakSet()
        """Those that somebody waits for, or will."""
        self._problem: BaseException | None = None
        self._lanes: dict[str, Lane] = {}
        self._told_to_stop = False
        self._stops = 0
        self._ended = threading.Event()
        self._tuned = Tuned()

    def lane(
        self,
        key: str,
        backend: Backend,
        identity: Mapping[str, Any],
        rules: Rules | None = None,
        price: Price | None = None,
    ) -> Lane:
        """The lane of a model, made when it is first named."""
        return self.lane_made_by(key, lambda: Lane(self, key, backend, identity, rules or Rules(), price))

    def lane_made_by(self, key: str, make: Callable[[], Lane]) -> Lane:
        """The lane of a model, made by `make` when it is first named."""
        with self._lock:
            if key not in self._lanes:
                self._lanes[key] = make()
            return self._lanes[key]

    # -- asking

    def ask(self, lane: Lane, requests: Sequence[Request], step: str | None = None) -> list[Reply]:
        """One reply for each request, in order; blocks until all are there. Raises Stopped, or what broke the program."""
        return self.begin(lane, requests, step).replies()

    def begin(self, lane: Lane, requests: Sequence[Request], step: str | None = None) -> Asked:
        """Look requests up and hand over those that are to be sent; their replies may be waited for later."""
        return self._begun(lane, requests, lambda batch, start, part: self._from_ledger(lane, batch, start, part, step))

    def ask_unkept(self, lane: Lane, payloads: Sequence[Any]) -> list[Reply]:
        """The same without the ledger: for what a back end takes that is no chat request."""

        def jobs(batch: Batch, start: int, part: Sequence[Any]) -> list[Job]:
            return [Job(payload, None, None, None, batch, start + i) for i, payload in enumerate(part)]

        return self._begun(lane, payloads, jobs).replies()

    def _begun(self, lane: Lane, payloads: Sequence[Any], jobs: Callable[[Batch, int, Sequence[Any]], list[Job]]) -> Asked:
        batch = Batch(len(payloads))
        if not payloads:
            batch.done.set()
            return Asked(batch)
        self._await(batch)
        for start in range(0, len(payloads), CHUNK):
            self._give_way(lane)
            if new := jobs(batch, start, payloads[start : start + CHUNK]):
                self.loop.call_soon_threadsafe(lane.add, new)
        return Asked(batch)

    def _give_way(self, lane: Lane) -> None:
        """Let the event loop see to all that has come, where it has enough to send.

        A thread that computes takes the interpreter from it at every call to the system, several times a request: requests
        put together in one go would keep a server idle for as long as that takes.
        """
        if lane.supplied:
            seen = threading.Event()
            self.loop.call_soon_threadsafe(self.loop.call_soon, seen.set)  # behind what this turn of the loop finds
            seen.wait(COURTESY_SECONDS)

    def _await(self, batch: Batch) -> None:
        with self._lock:
            if self._problem is not None:
                raise self._problem
            self._batches.add(batch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="curate-caller", daemon=True)
                self._thread.start()

    def _from_ledger(self, lane: Lane, batch: Batch, start: int, requests: Sequence[Request], step: str | None) -> list[Job]:
        """Answer from the ledger, or together with an equal request in flight; what is left are new jobs.

        What is not found is claimed, and then looked for once more, while an answer is recorded before its claim is given
        back: whoever comes between sees the one or the other, and no answer is asked for twice.
        """
        assert self.ledger is not None, "chat requests need a ledger"
        keys = self._keys(lane, batch, start, requests)
        asked = [place for place, key in enumerate(keys) if key is not None]
        limits = [requests[place].sampling.max_tokens for place in asked]
        known = self.ledger.find([keys[place] or "" for place in asked], limits)
        self._served(lane, batch, start, [(place, reply) for place, reply in zip(asked, known, strict=True) if reply is not None])
        claimed: list[Job] = []
        with self._lock:
            for place, reply in zip(asked, known, strict=True):
                if reply is not None:
                    continue
                key, request, place = keys[place], requests[place], start + place
                flight = (key or "", request.sampling.max_tokens)
                if (flying := self._flying.get(flight)) is not None:
                    flying.waiters.append((batch, place))
                    continue
                job = self._flying[flight] = Job(request, key, flight, step, batch, place)
                claimed.append(job)
        if not claimed:
            return []
        try:
            found = self._find(claimed)
        except BaseException as problem:
            self._give_back(claimed, problem)
            raise
        kept = [(job, reply) for job, reply in zip(claimed, found, strict=True) if reply is not None]
        self._deliver(lane, kept)
        return [job for job, reply in zip(claimed, found, strict=True) if reply is None]

    def _keys(self, lane: Lane, batch: Batch, start: int, requests: Sequence[Request]) -> list[str | None]:
        """The requests' keys; None for one that no server could be asked, which ends here."""
        assert self.ledger is not None
        keys: list[str | None] = []
        for place, request in enumerate(requests, start):
            try:
                keys.append(self.ledger.key(lane.identity, request))
            except ValueError as problem:
                keys.append(None)
                lane.meter.ended("request")
                with self._lock:
                    batch.put(place, Reply(error="request", detail=f"the request cannot be sent: {problem}"))
        return keys

    def _find(self, jobs: Sequence[Job]) -> list[Reply | None]:
        assert self.ledger is not None
        limits = [job.request.sampling.max_tokens for job in jobs]
        return self.ledger.find([job.key or "" for job in jobs], limits)

    def _give_back(self, jobs: Iterable[Job], problem: BaseException) -> None:
        """Claims that came to nothing: whoever waits for them learns why."""
        with self._lock:
            for job in jobs:
                if job.flight is not None:
                    self._flying.pop(job.flight, None)
                for batch, _ in job.waiters:
                    batch.fail(problem)

    def disown(self, lane: Lane, requests: Iterable[Request], step: str | None) -> None:
        """Never serve the answers to these requests again."""
        if self.ledger is not None:
            for request in requests:
                self.ledger.disown(self.ledger.key(lane.identity, request), lane.identity, request, step)

    # -- handing over

    def record(self, lane: Lane, job: Job, reply: Reply) -> None:
        """Keep a reply in the ledger."""
        if self.ledger is not None and job.key is not None:
            self.ledger.record(job.key, lane.identity, job.request, reply, job.step)

    def deliver(self, lane: Lane, jobs: Sequence[Job], reply: Reply) -> None:
        """Hand one reply to everybody who waits for any of these; only the first has paid for it."""
        shared = reply if reply.error is not None else None
        with self._lock:
            for job in jobs:
                if job.flight is not None:
                    self._flying.pop(job.flight, None)
                for number, (batch, place) in enumerate(job.waiters):
                    if not number:
                        batch.put(place, reply)
                        continue
                    shared = shared or replace(reply, from_ledger=True)
                    batch.put(place, shared)
                    lane.meter.shared(reply.error)

    def _served(self, lane: Lane, batch: Batch, start: int, found: Sequence[tuple[int, Reply]]) -> None:
        """Hand over what the ledger had before anybody claimed it."""
        with self._lock:
            for place, reply in found:
                batch.put(start + place, reply)
            lane.meter.from_ledger += len(found)

    def _deliver(self, lane: Lane, found: Sequence[tuple[Job, Reply]]) -> None:
        """Hand over what the ledger had."""
        with self._lock:
            for job, reply in found:
                if job.flight is not None:
                    self._flying.pop(job.flight, None)
                for batch, place in job.waiters:
                    batch.put(place, reply)
            lane.meter.from_ledger += len(found)

    # -- the event loop

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._unexpected)
        self.loop.run_forever()

    def _unexpected(self, _: Any, context: dict[str, Any]) -> None:
        """A callback failed: without this, whoever waits would wait for ever."""
        problem = context.get("exception")
        if problem is not None:
            self.break_down(problem)

    def settled(self) -> None:
        """A call came back: what waited for the budget may go, and a run that stops may be at its end."""
        if self.stopping:
            if not self._worth_waiting:
                self._release()
        elif self.budget.max_cost is not None:
            for lane in self._lanes.values():
                lane.pump()

    def try_again(self) -> None:
        """Ask models that were given up once more, as patiently as at first."""
        for lane in self._lanes.values():
            self.loop.call_soon_threadsafe(lane.circuit.try_again, self.clock())

    def spend_no_more(self) -> None:
        """The budget is reached: whatever was not sent ends."""
        for lane in self._lanes.values():
            self.unpaid += lane.end_all("budget", self.budget.reached or "")

    def break_down(self, problem: BaseException) -> None:
        """The program or the disk failed: nothing new is sent, and everybody who waits is told."""
        self.stopping = True
        for lane in self._lanes.values():
            lane.drop_all()
        self._fail_all(problem)

    def _fail_all(self, problem: BaseException) -> None:
        with self._lock:
            self._problem = self._problem or problem
            for batch in self._batches:
                batch.fail(problem)
            self._flying.clear()

    # -- stopping

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Send nothing new; calls in flight have so many seconds to finish and be recorded. A second call waits no longer.

        Returns at once and may be called from a signal handler; those who ask are told by Stopped.
        """
        self._told_to_stop = True
        with contextlib.suppress(RuntimeError):  # closed before
            self.loop.call_soon_threadsafe(self._stop, grace)

    def _stop(self, grace: float) -> None:
        self.stopping = True
        self._stops += 1
        for lane in self._lanes.values():
            lane.drop_all()
        if self._stops > 1 or grace <= 0 or not self._worth_waiting:
            self._release()
        else:
            self.loop.call_later(grace, self._release)

    def _release(self) -> None:
        """Drop what is still in flight and let everybody go."""
        for lane in self._lanes.values():
            lane.drop_all()
            lane.cancel()
        self._fail_all(Stopped("stopped; every answer that came is kept, and the same command goes on from there"))
        self._ended.set()

    def close(self, grace: float = GRACE_SECONDS) -> None:
        """Stop, then free back ends and thread. The ledger stays open: it is not this object's."""
        if self.loop.is_closed():
            return
        self._tuned.restore()
        if self._thread is None:
            self.loop.run_until_complete(self._close_lanes())
        else:
            try:
                if not self._told_to_stop:  # a second call would wait no longer
                    self.stop(grace)
                self._ended.wait(grace + 1)
            finally:  # a second Ctrl-C waits no longer
                self.stop(0)
                self._ended.wait(1)
                asyncio.run_coroutine_threadsafe(self._close_lanes(), self.loop).result(10)
                self.loop.call_soon_threadsafe(self.loop.stop)
                self._thread.join(10)
        self.loop.close()

    async def _close_lanes(self) -> None:
        for lane in self._lanes.values():
            await lane.close()
        await self.loop.shutdown_default_executor()

    @property
    def _worth_waiting(self) -> bool:
        """Whether calls are in flight that a stop waits for."""
        return any(lane.in_flight and lane.waits_at_stop for lane in self._lanes.values())

    # -- telling

    def statistics(self) -> dict[str, Statistics]:
        """How each model's calls stand, and under "" all together. From any thread."""
        lanes = dict(self._lanes)
        parts = {key: lane.meter.read(lane.waiting, lane.in_flight, lane.limit) for key, lane in lanes.items()}
        return {**parts, "": total(parts)}

    def troubles(self) -> list[str]:
        """One sentence for each model that did not answer, and one if the budget was reached."""
        troubles = [trouble for lane in self._lanes.values() if (trouble := lane.trouble()) is not None]
        if self.unpaid:
            troubles.append(f"{self.budget.reached}; {self.unpaid:,} requests are left for the next run")
        return troubles
