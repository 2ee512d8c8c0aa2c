"""Models asked through their provider's batch endpoint: `options: {mode: batch}`. Slow, and half the price."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from curate.models.asking import FINAL_ERRORS, Backend, Reply
from curate.models.jobs import Job
from curate.models.lane import Host, Lane
from curate.models.limits import Rules
from curate.models.spec import Price

if TYPE_CHECKING:
    from curate.models.batch import Batches, Delivered

GATHER_SECONDS = 2.0
"""How long requests are gathered: shards in flight together share a batch."""


class BatchLane(Lane):
    """One model behind a batch endpoint: what is queued goes out together and comes back together.

    A stop does not wait for a batch, and nothing of it is lost: it goes on at the provider, and the next run finds it.
    """

    waits_at_stop = False

    def __init__(
        self,
        caller: Host,
        key: str,
        backend: Backend,
        identity: Mapping[str, Any],
        rules: Rules,
        price: Price | None,
        batches: "Batches",
    ) -> None:
        super().__init__(caller, key, backend, identity, rules, price)
        self.batches = batches
        self._gathering = False

    @property
    def limit(self) -> int:
        """All of them."""
        return self.waiting

    def pump(self) -> None:
        """Send what is there, once what comes with it had time to come."""
        if self._queue and not self._gathering:
            self._gathering = True
            self.caller.loop.call_later(GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._gathering = False
        jobs = []
        while self._queue and self._affordable(self._queue[0]):
            jobs.append(self._queue.popleft())
            self._sent(jobs[-1:], self.caller.clock())
        if jobs:
            self.start(self._submit(jobs))

    async def _submit(self, jobs: Sequence[Job]) -> None:
        """A batch from beginning to end: submitted, waited for, every reply recorded, and only then forgotten."""
        try:
            delivered = await self._delivered([job.request for job in jobs])
            now = self.caller.clock()
            for job, reply in zip(jobs, delivered.replies, strict=True):
                self.in_flight -= 1
                self._account((job,), (reply,), now)
                self._end(job, reply)
            if self.caller.ledger is not None and delivered.names:
                await asyncio.to_thread(self.caller.ledger.sync)
                await asyncio.to_thread(self.batches.settle, delivered.names)
            self.caller.settled()
        except Exception as problem:
            self.caller.break_down(problem)

    async def _delivered(self, requests: Sequence[Any]) -> "Delivered":
        """What the batches bring; an endpoint that cannot be used is an error in every reply."""
        from curate.models.batch import BatchError, Delivered

        try:
            return await self.batches.run(requests, poll_s=self.rules.poll_seconds)
        except BatchError as error:
            failed = Reply(error=error.kind, detail=str(error))
            self.left_out += len(requests) if error.kind not in FINAL_ERRORS else 0
            self._given_up = f"{error.kind}: {error}"
            return Delivered([replace(failed)] * len(requests), ())

    async def close(self) -> None:
        """Free connections; what was submitted goes on."""
        await self.batches.close()
        await super().close()
