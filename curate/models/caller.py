"""Ask models: from the ledger first, then as fast as each allows, and again what failed. Retries live here and nowhere else.

One event loop in one thread serves all steps and shards of a process. `Caller.ask` blocks its thread until every request has
a reply, `Caller.begin` only hands them over; any number of threads may ask at once, and share each model's limits. What a
server does never raises: it is an error in the reply. What raises is a fault of the program or the disk, or `Stopped`.
"""

import asyncio
import contextlib
import gc
import random
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from curate.errors import CurateError
from curate.models.asking import FINAL_ERRORS, Attempt, Backend, ErrorKind, Reply, Request
from curate.models.limits import BAD_REPLIES, LONGEST_PAUSE, Circuit, Concurrency, Pace, Rules, backoff
from curate.models.spec import Price
from curate.models.spending import Budget, Meter, Statistics, Usage, total

if TYPE_CHECKING:
    from curate.models.ledger import Ledger

CHUNK = 500
"""Requests handed over at once: the event loop waits for the lock no longer than that takes."""
GRACE_SECONDS = 30.0
"""How long calls in flight may take to finish once the run was stopped: they are paid for."""
YIELD_SECONDS = 0.0005
"""A back end that answers sooner may not have given way to the others."""
MOST_SAMPLES = 128
"""Samples of one call: what providers allow."""
APART_SECONDS = 0.1
"""Requests that were told to wait equally long do not come back in one moment."""
PROBE_PAUSES: Mapping[ErrorKind, float] = {"rate_limit": 60.0}
"""The longest pause between probes of a model that answers nobody: a quota fills slowly."""
FREE: frozenset[ErrorKind] = frozenset({"rate_limit"})
"""Failures that do not count as tries: the request was not looked at. They are bounded by the time they take."""
YOUNG_OBJECTS = 10_000
"""Objects made between two young passes, while a caller lives: of Python's own 700, most are still in use when a pass comes."""
FULL_COLLECTIONS = 1000
"""Middle passes of the garbage collector to a full one while a caller lives: a full one walks through every request, reply and
row on its way, and seldom finds any that is garbage (a fifth of a replay's time)."""
SWITCH_SECONDS = 0.0002
"""How long a thread that computes keeps the interpreter from the event loop, while a caller lives: Python's own 5 ms, spent
anew at every socket call, would leave a server idle whenever a shard is prepared beside it."""
NEVER_AGAIN: frozenset[ErrorKind] = FINAL_ERRORS | {"engine"}
"""Failures that are not tried again in this run. A key that is refused or a missing model are mended by a person."""


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


class Cancellable(Protocol):
    """A call on its way."""

    def cancel(self) -> None:
        """Give it up; nobody is told."""


Begin = Callable[[Any, int, Callable[[Sequence[Attempt]], None]], "Cancellable | None"]
"""How a back end is asked that tells of a reply as soon as it has it: (request, samples, whom to tell). None: not this one."""

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


class Try:
    """One call of one or several samples, and what is to happen when it ends."""

    __slots__ = ("lane", "jobs", "sent_at", "call")

    def __init__(self, lane: "Lane", jobs: "list[Job]", sent_at: float) -> None:
        self.lane = lane
        self.jobs = jobs
        self.sent_at = sent_at
        self.call: Cancellable | None = None

    def __call__(self, attempts: Sequence[Attempt]) -> None:
        """It ended: what came is recorded before this returns, and then the next goes out."""
        lane = self.lane
        lane.tries.discard(self)
        lane.in_flight -= 1
        try:
            lane.came(self.jobs, attempts, self.sent_at, lane.caller.clock())
            lane.pump()
        except Exception as problem:  # what a server does is in the reply: this is the program's or the disk's
            lane.caller.break_down(problem)

    def cancel(self) -> None:
        """Give it up."""
        self.lane.in_flight -= 1
        if self.call is not None:
            self.call.cancel()


class Lane:
    """One model: its queue, its limits, and what has become of its calls. Lives in the event loop's thread."""

    waits_at_stop = True
    """Whether what is in flight is worth waiting for when the run is stopped."""

    def __init__(
        self, caller: "Caller", key: str, backend: Backend, identity: Mapping[str, Any], rules: Rules, price: Price | None
    ) -> None:
        self.caller = caller
        self.key = key
        self.backend = backend
        self.identity = dict(identity)
        self.rules = rules
        self.concurrency = Concurrency(rules.concurrency, rules.max_concurrency)
        self.circuit = Circuit(rules.down_seconds)
        self.usage = Usage(price)
        self.meter = Meter(caller.clock)
        self.in_flight = 0
        self.left_out = 0
        """Requests without an answer because the model was given up."""
        self._given_up = ""
        self._requests_pace = Pace(rules.requests_per_minute)
        self._tokens_pace = Pace(rules.tokens_per_minute)
        self._counts_characters = bool(rules.tokens_per_minute) or (price is not None and caller.budget.max_cost is not None)
        self._queue: deque[Job] = deque()
        self._sleeping: dict[Job, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.tries: set[Try] = set()
        """Calls in flight that are no task."""
        self._begin: Begin | None = getattr(backend, "begin", None)
        self._paused_until = self._resting_until = 0.0
        """As the server said, and of our own accord while it answers nobody."""
        self._many = bool(getattr(backend, "native_n", False))
        self._alarm: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Lane({self.key}, {self.in_flight} of {self.limit} in flight, {len(self._queue)} queued)"

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        return 1 if self.circuit.troubled else self.concurrency.limit

    @property
    def waiting(self) -> int:
        """Requests without a reply."""
        return len(self._queue) + len(self._sleeping) + self.in_flight

    # -- coming in

    def add(self, jobs: Sequence[Job]) -> None:
        """Queue requests; where the model was given up or nothing may be spent any more, they end at once."""
        if self.caller.stopping:
            return
        self._queue.extend(jobs)
        if self.caller.budget.reached is not None:
            self.caller.spend_no_more()
        elif self.circuit.given_up is not None:
            probe = self._queue.popleft() if self._queue and self.circuit.probe(self.caller.clock()) else None
            self._give_up(self.circuit.given_up)
            if probe is not None:
                self._queue.append(probe)
        self.pump()

    def pump(self) -> None:
        """Send what may be sent."""
        while (jobs := self._next()) is not None:
            if self._begin is None or not self._begun(jobs, self._begin):
                self.start(self._work(jobs))

    def _begun(self, jobs: "list[Job]", begin: Begin) -> bool:
        """Send one call, if the back end takes it like that."""
        attempt = Try(self, jobs, self.caller.clock())
        attempt.call = begin(jobs[0].request, len(jobs), attempt)
        if attempt.call is None:
            return False
        self.tries.add(attempt)
        return True

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the event loop; `cancel` ends it."""
        task = self.caller.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _next(self) -> "list[Job] | None":
        """What goes out in the next call, if one may; otherwise whatever holds it back will pump again.

        It is one request, or the samples of one where the back end asks for several at once.
        """
        if not self._queue or self.in_flight >= self.limit:
            return None
        now = self.caller.clock()
        held = max(self._paused_until, self._resting_until) - now
        wait = max(held, self._requests_pace.wait(now), self._tokens_pace.wait(now))
        if wait > 0:
            self._wake_in(wait)
            return None
        if not self._affordable(self._queue[0]):
            return None
        jobs = [self._queue.popleft()]
        while self._many and self._queue and alike(jobs[0].request, self._queue[0].request):
            if len(jobs) >= MOST_SAMPLES or not self._affordable(self._queue[0], sum(job.cost for job in jobs)):
                break
            jobs.append(self._queue.popleft())
        self._sent(jobs, now)
        return jobs

    def _affordable(self, job: Job, besides: float = 0.0) -> bool:
        """Whether the budget has room for a request; where it has none for good, everything that waits ends."""
        if self._counts_characters:
            self._estimate(job)
        room = self.caller.budget.room(job.cost + besides)
        if room == "no" and not besides:
            self.caller.spend_no_more()
        return room == "yes"

    def _estimate(self, job: Job) -> None:
        """What the next try of a request needs, from its characters."""
        job.characters = job.characters or characters(job.request)
        limit = job.request.sampling.max_tokens if isinstance(job.request, Request) else 0
        job.tokens = self.usage.prompt_tokens(job.characters) + self.usage.response_tokens(limit)
        job.cost = self.usage.cost(job.characters, limit)

    def _sent(self, jobs: Sequence[Job], now: float) -> None:
        """Account for one call."""
        self.in_flight += 1
        self.meter.calls += 1
        for job in jobs:
            if job.tries:
                self.meter.retries += 1
            else:
                job.began = now
            job.tries += 1
        self._requests_pace.take(1, now)
        self._tokens_pace.take(sum(job.tokens for job in jobs), now)
        self.caller.budget.sent(sum(job.cost for job in jobs))

    def _wake_in(self, seconds: float) -> None:
        if self._alarm is None:
            self._alarm = self.caller.loop.call_later(seconds, self._woken)

    def _woken(self) -> None:
        self._alarm = None
        self.pump()

    # -- coming back

    async def _work(self, jobs: list[Job] | None) -> None:
        """Send one call after the other, as long as there is room."""
        try:
            while jobs is not None:
                sent_at = self.caller.clock()
                try:
                    attempts = await self._send(jobs)
                finally:
                    self.in_flight -= 1
                now = self.caller.clock()
                self.came(jobs, attempts, sent_at, now)
                if now - sent_at < YIELD_SECONDS:
                    await asyncio.sleep(0)
                jobs = self._next()
                self.pump()
        except Exception as problem:  # what a server does is in the reply: this is the program's or the disk's
            self.caller.break_down(problem)

    def came(self, jobs: Sequence[Job], attempts: Sequence[Attempt], sent_at: float, now: float) -> None:
        """A call came back."""
        self._account(jobs, [attempt.reply for attempt in attempts], now)
        for job, attempt in zip(jobs, attempts, strict=True):
            self._came_back(job, attempt, sent_at, now)
        self.caller.settled()

    async def _send(self, jobs: Sequence[Job]) -> Sequence[Attempt]:
        if len(jobs) == 1:
            return (await self.backend.send(jobs[0].request),)
        many: Sequence[Attempt] = await self.backend.send_many(jobs[0].request, len(jobs))  # type: ignore[attr-defined]
        return many

    def _came_back(self, job: Job, attempt: Attempt, sent_at: float, now: float) -> None:
        reply = attempt.reply
        if reply.error is None or reply.error in FINAL_ERRORS:
            self._alive()
            if reply.error is None:
                self.concurrency.answered(sent_at, now, reply.response_tokens, self.in_flight + 1)
            self._end(job, reply)
        else:
            self._failed(job, reply, reply.error, attempt.retry_after, sent_at, now)

    def _account(self, jobs: Sequence[Job], replies: Sequence[Reply], now: float) -> None:
        """Put what came back in place of what was estimated."""
        paid = 0.0
        for place, (job, reply) in enumerate(zip(jobs, replies, strict=True)):
            self.meter.came_back(replace(reply, prompt_tokens=None) if place else reply, now)
            if reply.cost_usd is not None:
                paid += reply.cost_usd
            elif reply.error is None or reply.error == "timeout":
                paid += job.cost  # it does not say, or went on working when nobody waited any more
        self.caller.budget.settled(sum(job.cost for job in jobs), paid)
        if self._counts_characters and len(jobs) == 1:
            self.usage.learn(jobs[0].characters, replies[0])
            if replies[0].prompt_tokens is not None:
                self._tokens_pace.correct(replies[0].prompt_tokens + (replies[0].response_tokens or 0) - jobs[0].tokens)

    def _failed(self, job: Job, reply: Reply, kind: ErrorKind, retry_after: float | None, sent_at: float, now: float) -> None:
        """Try again later, if that may help."""
        self.concurrency.failed(kind, sent_at, now, max(self.in_flight + 1, self.limit))
        self.circuit.failed(kind, reply.detail, sent_at, now)
        self._pause(kind, reply.detail, retry_after, now)
        job.last = reply
        job.bad += kind == "bad_reply"
        # while nobody gets an answer, the request is not to blame
        job.counted += kind not in FREE and not (kind == "connection" and self.circuit.troubled)
        wait = self._wait_before_next(job, retry_after)
        reason = self._last_try(job, kind, wait, now)
        if self.circuit.given_up is not None:
            self._end(job, told(reply, f"after {tries(job.tries)}, when the model was given up"))
            self.left_out += 1
            self._give_up(self.circuit.given_up)
        elif reason is not None:
            self._end(job, told(reply, reason))
        elif not self.caller.stopping:
            self._keep_paid(job, reply)
            self._sleeping[job] = self.caller.loop.call_later(wait, self._again, job)

    def _wait_before_next(self, job: Job, retry_after: float | None) -> float:
        """Seconds; what the server says and no less, a little apart from the others."""
        if retry_after is not None:
            return retry_after + self.caller.jitter.uniform(0.0, APART_SECONDS)
        return backoff(max(job.counted, 1), self.caller.jitter)

    def _pause(self, kind: ErrorKind, detail: str | None, retry_after: float | None, now: float) -> None:
        """Hold the whole model back: as long as a 429 says, and between probes of one that answers nobody."""
        if self.circuit.troubled:
            longest = self.rules.down_seconds / 30 if kind == "connection" else PROBE_PAUSES.get(kind, 5.0)
            self._resting_until = now + min(backoff(self.circuit.rounds, self.caller.jitter), longest)
        if kind == "rate_limit" and retry_after is not None:
            if retry_after > LONGEST_PAUSE:
                self.circuit.give_up(kind, f"the server asks to wait {retry_after:.0f} s: {detail}", now, retry_after)
            self._paused_until = max(self._paused_until, now + min(retry_after, LONGEST_PAUSE))

    def _alive(self) -> None:
        """It answered: what rested of its own accord goes on."""
        self.circuit.alive()
        if self._resting_until:
            self._resting_until = 0.0
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    def _last_try(self, job: Job, kind: ErrorKind, wait: float, now: float) -> str | None:
        """Why a request is not tried again, or None."""
        if kind in NEVER_AGAIN:
            return ""
        if job.counted > self.rules.retries or job.bad >= BAD_REPLIES:
            return f"after {tries(job.tries)}"
        if now + wait - job.began > self.rules.retry_seconds:
            return f"after {tries(job.tries)} in {now - job.began:.0f} s; the next would be {wait:.0f} s later"
        return None

    def _again(self, job: Job) -> None:
        """A request has waited; it goes before those that were never tried."""
        del self._sleeping[job]
        self._queue.appendleft(job)
        self.pump()

    # -- ending

    def _keep_paid(self, job: Job, reply: Reply) -> None:
        """A failure that will be tried again is only worth a record where it cost something."""
        if job.key is not None and (reply.cost_usd or reply.response_tokens):
            self.caller.record(self, job, reply)

    def _end(self, job: Job, reply: Reply) -> None:
        """Record the reply, then hand it over."""
        if job.key is not None and job.tries:
            self.caller.record(self, job, reply)
        self.meter.ended(reply.error)
        self.caller.deliver(self, (job,), reply)

    def _give_up(self, kind: ErrorKind) -> None:
        """The model does not answer: nothing waits for it any longer."""
        self._given_up = f"{kind}: {self.circuit.detail}"
        self.left_out += self.end_all(kind, f"not asked: the model was given up; {self.circuit.detail}")

    def end_all(self, kind: ErrorKind, detail: str) -> int:
        """End everything that is not in flight with one error; how many there were."""
        dropped = self.drop_all()
        for job in dropped:
            self.meter.ended(kind)
            if job.key is not None and job.last is not None:
                self.caller.record(self, job, job.last)
        self.caller.deliver(self, dropped, Reply(error=kind, detail=detail))
        return len(dropped)

    def drop_all(self) -> list[Job]:
        """Take out everything that is not in flight."""
        dropped = [*self._queue, *self._sleeping]
        self._queue.clear()
        for timer in self._sleeping.values():
            timer.cancel()
        self._sleeping.clear()
        return dropped

    def cancel(self) -> None:
        """Drop what is in flight, too."""
        for task in self._tasks:
            task.cancel()
        for attempt in self.tries:
            attempt.cancel()
        self.tries.clear()

    async def close(self) -> None:
        """Wait for what was cancelled and free connections."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.backend.close()

    def trouble(self) -> str | None:
        """One sentence if requests failed because the model did not answer at all."""
        if not self.left_out:
            return None
        return f"model {self.key} was given up ({self._given_up}); {self.left_out:,} requests are left for the next run"


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
        self._collected: tuple[int, int, int] | None = None
        """The garbage collector's thresholds before this caller changed them."""
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
        self._collect_less()

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
            if new := jobs(batch, start, payloads[start : start + CHUNK]):
                self.loop.call_soon_threadsafe(self._add, lane, new)
        return Asked(batch)

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

    def _add(self, lane: Lane, jobs: Sequence[Job]) -> None:
        lane.add(jobs)

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

    def _collect_less(self) -> None:
        """Until `close`, full passes of the garbage collector and young ones are rarer, and threads take turns more often."""
        young, middle, full = gc.get_threshold()
        self._switched = sys.getswitchinterval()
        sys.setswitchinterval(min(self._switched, SWITCH_SECONDS))
        if 0 < full < FULL_COLLECTIONS:
            self._collected = (young, middle, full)
            gc.set_threshold(max(young, YOUNG_OBJECTS), middle, FULL_COLLECTIONS)

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
        if self._collected is not None:
            gc.set_threshold(*self._collected)
        sys.setswitchinterval(self._switched)
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


def tries(count: int) -> str:
    """A number of tries, in words."""
    return "1 try" if count == 1 else f"{count} tries"


def told(reply: Reply, reason: str) -> Reply:
    """A failure with why it was the last."""
    return replace(reply, detail=f"{reply.detail} ({reason})" if reason else reply.detail)
