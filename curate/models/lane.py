"""One model's queue: what is asked of it next, how many at once, and what becomes of each call."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from curate.models.asking import FINAL_ERRORS, Attempt, Backend, ErrorKind, Reply, Request
from curate.models.jobs import Job, alike, characters
from curate.models.limits import Circuit, Concurrency, Rules
from curate.models.retrying import FREE, Hold, last_try, told, tries, wait_before_next
from curate.models.spec import Price
from curate.models.spending import Budget, Meter, Usage

if TYPE_CHECKING:
    from curate.models.ledger import Ledger

YIELD_SECONDS = 0.0005
"""A back end that answers sooner may not have given way to the others."""
MOST_SAMPLES = 128
"""Samples of one call: what providers allow."""


class Host(Protocol):
    """What a lane needs of the caller that it belongs to. All of it happens in the event loop's thread."""

    ledger: "Ledger | None"
    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    jitter: random.Random
    budget: Budget
    stopping: bool

    def record(self, lane: "Lane", job: Job, reply: Reply, /) -> None:
        """Keep a reply in the ledger."""

    def deliver(self, lane: "Lane", jobs: Sequence[Job], reply: Reply, /) -> None:
        """Hand one reply to everybody who waits for any of these."""

    def settled(self) -> None:
        """A call came back."""

    def spend_no_more(self) -> None:
        """The budget is reached: whatever was not sent ends."""

    def break_down(self, problem: BaseException, /) -> None:
        """The program or the disk failed."""


class Cancellable(Protocol):
    """A call on its way."""

    def cancel(self) -> None:
        """Give it up; nobody is told."""


Begin = Callable[[Any, int, Callable[[Sequence[Attempt]], None]], "Cancellable | None"]
"""How a back end is asked that tells of a reply as soon as it has it: (request, samples, whom to tell). None: not this one."""


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
        lane, self.call = self.lane, None  # which holds this: nothing is left for the garbage collector
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
        self, caller: Host, key: str, backend: Backend, identity: Mapping[str, Any], rules: Rules, price: Price | None
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
        self._hold = Hold(rules, self.circuit, caller.jitter)
        self._counts_characters = bool(rules.tokens_per_minute) or (price is not None and caller.budget.max_cost is not None)
        self._queue: deque[Job] = deque()
        self._sleeping: dict[Job, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.tries: set[Try] = set()
        """Calls in flight that are no task."""
        self._begin: Begin | None = getattr(backend, "begin", None)
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

    @property
    def supplied(self) -> bool:
        """Whether as many requests are queued as may be in flight: those who make up more need not hurry. From any thread."""
        return bool(self.in_flight) and len(self._queue) >= self.limit

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
        wait = self._hold.wait(now)
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
        self._hold.sent(sum(job.tokens for job in jobs) if self._counts_characters else 0.0, now)
        self.caller.budget.sent(self._cost(jobs))

    def _cost(self, jobs: Sequence[Job]) -> float:
        """What requests are estimated to cost, where anybody counts."""
        return sum(job.cost for job in jobs) if self._counts_characters else 0.0

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
        self.caller.budget.settled(self._cost(jobs), paid)
        if self._counts_characters and len(jobs) == 1:
            self.usage.learn(jobs[0].characters, replies[0])
            if replies[0].prompt_tokens is not None:
                self._hold.tokens.correct(replies[0].prompt_tokens + (replies[0].response_tokens or 0) - jobs[0].tokens)

    def _failed(self, job: Job, reply: Reply, kind: ErrorKind, retry_after: float | None, sent_at: float, now: float) -> None:
        """Try again later, if that may help."""
        self.concurrency.failed(kind, sent_at, now, max(self.in_flight + 1, self.limit))
        self.circuit.failed(kind, reply.detail, sent_at, now)
        self._hold.failed(kind, reply.detail, retry_after, now)
        job.last = reply
        job.bad += kind == "bad_reply"
        # while nobody gets an answer, the request is not to blame
        job.counted += kind not in FREE and not (kind == "connection" and self.circuit.troubled)
        wait = wait_before_next(job, retry_after, self.caller.jitter)
        reason = last_try(job, kind, wait, now, self.rules)
        if self.circuit.given_up is not None:
            self._end(job, told(reply, f"after {tries(job.tries)}, when the model was given up"))
            self.left_out += 1
            self._give_up(self.circuit.given_up)
        elif reason is not None:
            self._end(job, told(reply, reason))
        elif not self.caller.stopping:
            self._keep_paid(job, reply)
            self._sleeping[job] = self.caller.loop.call_later(wait, self._again, job)

    def _alive(self) -> None:
        """It answered."""
        self.circuit.alive()
        if self._hold.alive() and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

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
