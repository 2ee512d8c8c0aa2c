"""When a model may be asked again, and when a request is not tried any more. Retries live here and nowhere else."""

import random
from collections.abc import Mapping
from dataclasses import replace

from curate.models.asking import FINAL_ERRORS, ErrorKind, Reply
from curate.models.jobs import Job
from curate.models.limits import BAD_REPLIES, LONGEST_PAUSE, Circuit, Pace, Rules, backoff

APART_SECONDS = 0.1
"""Requests that were told to wait equally long do not come back in one moment."""
PROBE_PAUSES: Mapping[ErrorKind, float] = {"rate_limit": 60.0}
"""The longest pause between probes of a model that answers nobody: a quota fills slowly."""
FREE: frozenset[ErrorKind] = frozenset({"rate_limit"})
"""Failures that do not count as tries: the request was not looked at. They are bounded by the time they take."""
NEVER_AGAIN: frozenset[ErrorKind] = FINAL_ERRORS | {"engine"}
"""Failures that are not tried again in this run. A key that is refused or a missing model are mended by a person."""


class Hold:
    """What holds a model back: its provider's limits, a pause that it asked for, and rests while it answers nobody."""

    def __init__(self, rules: Rules, circuit: Circuit, jitter: random.Random) -> None:
        self.requests = Pace(rules.requests_per_minute)
        self.tokens = Pace(rules.tokens_per_minute)
        self._circuit = circuit
        self._jitter = jitter
        self._longest_rest = rules.down_seconds / 30
        self._paused_until = self._resting_until = 0.0
        """As the server said, and of our own accord while it answers nobody."""

    def wait(self, now: float) -> float:
        """Seconds until the next call may go; 0 or less for now."""
        held = max(self._paused_until, self._resting_until) - now
        return max(held, self.requests.wait(now), self.tokens.wait(now))

    def sent(self, tokens: float, now: float) -> None:
        """A call goes out."""
        self.requests.take(1, now)
        self.tokens.take(tokens, now)

    def failed(self, kind: ErrorKind, detail: str | None, retry_after: float | None, now: float) -> None:
        """Hold the whole model back: as long as a 429 says, and between probes of one that answers nobody."""
        if self._circuit.troubled:
            longest = self._longest_rest if kind == "connection" else PROBE_PAUSES.get(kind, 5.0)
            self._resting_until = now + min(backoff(self._circuit.rounds, self._jitter), longest)
        if kind == "rate_limit" and retry_after is not None:
            if retry_after > LONGEST_PAUSE:
                self._circuit.give_up(kind, f"the server asks to wait {retry_after:.0f} s: {detail}", now, retry_after)
            self._paused_until = max(self._paused_until, now + min(retry_after, LONGEST_PAUSE))

    def alive(self) -> bool:
        """It answered: what rested of its own accord goes on. Whether it rested."""
        rested, self._resting_until = self._resting_until > 0, 0.0
        return rested


def wait_before_next(job: Job, retry_after: float | None, jitter: random.Random) -> float:
    """Seconds until a request is tried again; what the server says and no less, a little apart from the others."""
    if retry_after is not None:
        return retry_after + jitter.uniform(0.0, APART_SECONDS)
    return backoff(max(job.counted, 1), jitter)


def last_try(job: Job, kind: ErrorKind, wait: float, now: float, rules: Rules) -> str | None:
    """Why a request is not tried again, or None."""
    if kind in NEVER_AGAIN:
        return ""
    if job.counted > rules.retries or job.bad >= BAD_REPLIES:
        return f"after {tries(job.tries)}"
    if now + wait - job.began > rules.retry_seconds:
        return f"after {tries(job.tries)} in {now - job.began:.0f} s; the next would be {wait:.0f} s later"
    return None


def tries(count: int) -> str:
    """A number of tries, in words."""
    return "1 try" if count == 1 else f"{count} tries"


def told(reply: Reply, reason: str) -> Reply:
    """A failure with why it was the last."""
    return replace(reply, detail=f"{reply.detail} ({reason})" if reason else reply.detail)
