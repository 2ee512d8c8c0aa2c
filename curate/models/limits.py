"""How fast a model may be asked: its provider's limits, as many at once as it answers well, and when to stop trying."""

import math
import random
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from curate.errors import UsageError
from curate.models.asking import FINAL_ERRORS, ErrorKind

FIRST_WAIT = 0.5
"""Seconds: the most a first retry waits; doubled with every further one."""
LONGEST_WAIT = 60.0
"""Seconds a retry waits at most of its own accord. A Retry-After is waited for in full, up to LONGEST_PAUSE."""
LONGEST_PAUSE = 600.0
"""Seconds. A server that asks for more is not waited for in this run: what is left is the next run's."""
BAD_REPLIES = 3
"""Tries that may end in a reply that cannot be read: it was paid for, and seldom improves."""
TROUBLED = 10
"""Failures in a row, over all requests, after which a model is asked one thing at a time."""
PATIENCE: Mapping[ErrorKind, float] = {"engine": 0.0}
"""Seconds of nothing but failures until a model is given up, by the kind of the latest. A wrong key gets no better."""
PATIENCE_OTHERWISE = 600.0
SLACK = 0.05
"""Seconds by which a pace may be behind itself and catch up: event loops wake late."""


@dataclass(frozen=True)
class Rules:
    """What a recipe says under a model's `options` about how to ask it."""

    concurrency: int = 16
    """Requests in flight to begin with: few enough for any server, raised within a few replies where it copes."""
    max_concurrency: int = 256
    """The most in flight: a vLLM server's default batch, and what one event loop serves without queueing itself."""
    requests_per_minute: float | None = None
    """None: no limit. Requests are spread over the minute, since providers count shorter spans too."""
    tokens_per_minute: float | None = None
    """Prompt and response together; None: no limit."""
    retries: int = 7
    """Tries after the first. With a fifth of all tries failing, one row in 400,000 uses up eight. Waiting for a rate limit
    or for a server that answers nobody does not count."""
    retry_seconds: float = 1800.0
    """No request is tried again later than this after its first try: the time of three timeouts."""
    down_seconds: float = 30.0
    """How long a server may refuse every connection until it is given up: a restart behind a proxy takes less."""

    @classmethod
    def of(cls, options: Mapping[str, Any], model: str = "model") -> "Rules":
        """Those among a model's options that are the caller's. Raises UsageError for values that make no sense."""
        told: dict[str, Any] = {}
        for field in fields(cls):
            value = options.get(field.name)
            if value is None:
                continue
            whole = field.name in ("concurrency", "max_concurrency", "retries")
            low = 1 if "concurrency" in field.name else 0
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < low or (whole and value != int(value)):
                kind = "a whole number" if whole else "a number"
                raise UsageError(f"model {model}, options, {field.name}: expected {kind} from {low} up, got {value!r}")
            if "per_minute" in field.name and value == 0:
                raise UsageError(f"model {model}, options, {field.name}: 0 would ask nothing; leave it out for no limit")
            told[field.name] = int(value) if whole else float(value)
        return cls(**told)


CALLER_OPTIONS = frozenset(field.name for field in fields(Rules))
"""Options that back ends do not see."""


def backoff(tries: int, jitter: random.Random) -> float:
    """Seconds before the next try after so many: drawn from zero to a bound that doubles, so that clients do not come in step.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
    """
    return jitter.uniform(0.0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(tries - 1, 20)))


class Pace:
    """So much a minute and no more, evenly spread. Source: the generic cell rate algorithm (ITU-T I.371)."""

    def __init__(self, per_minute: float | None) -> None:
        # 60.1: an hour at this pace stays within the limit however its minutes are cut
        self._seconds_each = 60.1 / per_minute if per_minute else 0.0
        self._free_at = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until the next may go; 0.0 for now."""
        return max(self._free_at - now, 0.0)

    def take(self, amount: float, now: float) -> None:
        """Let so much go."""
        if self._seconds_each:
            self._free_at = max(self._free_at, now - SLACK) + amount * self._seconds_each

    def correct(self, amount: float) -> None:
        """What went was more than thought (less, if negative)."""
        if self._seconds_each:
            self._free_at += amount * self._seconds_each


class Concurrency:
    """How many requests may be in flight: raised while replies stay as quick, lowered at once when the server suffers.

    Until the first trouble the limit grows by half with every round of replies, afterwards by its square root. A 429 or a
    timeout halves it, once for the requests that were in flight together. Latency is compared as seconds a token, a reply
    counting at least BASE tokens, so that longer answers do not pass for a slower server. It may double against the best
    of the last rounds as long as more gets done; where no more gets done for it, the limit falls by 0.7.
    """

    BASE = 50
    """Tokens that a reply's fixed costs (queue, prompt, network) are worth."""
    ROUNDS = 20
    """Rounds remembered as "recent": a server that has become slower for good is accepted after as many."""
    FEWEST = 4
    """Replies in the shortest round."""

    def __init__(self, start: int, most: int) -> None:
        self._limit = float(min(start, most))
        self._most = most
        self._slowed = False
        self._round_since = self._lowered_at = -math.inf
        self._unit_seconds: list[float] = []
        self._units = 0.0
        self._full = False
        self._medians: deque[float] = deque(maxlen=self.ROUNDS)
        self._rates: deque[float] = deque(maxlen=self.ROUNDS)

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        return int(self._limit)

    def answered(self, sent_at: float, now: float, tokens: int | None, in_flight: int) -> None:
        """A reply came; in_flight counts it."""
        self._full |= in_flight >= self.limit
        if sent_at < self._round_since:
            return  # asked under an earlier limit: it says nothing about this one
        if not self._unit_seconds and self._round_since == -math.inf:
            self._round_since = sent_at
        units = max(tokens or 0, 0) + self.BASE
        self._unit_seconds.append((now - sent_at) / units)
        self._units += units
        if len(self._unit_seconds) >= max(self.limit, self.FEWEST):
            self._end_round(now)

    def failed(self, kind: ErrorKind, sent_at: float, now: float) -> None:
        """A try failed. Only 429 and timeouts say that it is too much."""
        if kind in ("rate_limit", "timeout") and sent_at >= self._lowered_at:
            self._lower(0.5, now)

    def _end_round(self, now: float) -> None:
        median = statistics.median(self._unit_seconds)
        rate = self._units / max(now - self._round_since, 1e-9)
        best = min(self._medians, default=median)
        before = max(self._rates, default=0.0)
        self._medians.append(median)
        self._rates.append(rate)
        if median > 2.0 * best and rate < 1.1 * before:
            self._lower(0.7, now)
            return
        if self._full and (median <= 1.5 * best or rate > 1.05 * before):
            step = math.sqrt(self._limit) if self._slowed else self._limit / 2
            self._limit = min(float(self._most), self._limit + max(1.0, step))
        self._start_round(now)

    def _lower(self, factor: float, now: float) -> None:
        self._limit = max(1.0, self._limit * factor)
        self._slowed = True
        self._lowered_at = now
        self._start_round(now)

    def _start_round(self, now: float) -> None:
        self._round_since = now
        self._unit_seconds = []
        self._units = 0.0
        self._full = False


class Circuit:
    """Whether a model answers at all. After TROUBLED failures in a row one request at a time probes it; where nothing but
    failures comes for as long as its patience lasts, it is given up: what is asked then fails at once, with a probe now and
    then in case it comes back."""

    PROBE_SECONDS = 5.0
    """Between probes of a model that was given up."""

    def __init__(self, down_seconds: float) -> None:
        self._patience = {**PATIENCE, "connection": down_seconds}
        self.failures = 0
        self._since = 0.0
        self._probe_at = 0.0
        self.given_up: ErrorKind | None = None
        self.detail = ""

    @property
    def troubled(self) -> bool:
        """Whether to ask one thing at a time."""
        return self.failures >= TROUBLED

    def alive(self) -> None:
        """It answered, if only to say no."""
        self.failures = 0
        self.given_up = None

    def failed(self, kind: ErrorKind, detail: str | None, now: float) -> None:
        """A try failed in a way that may be the server's and not the request's."""
        self._since = now if not self.failures else self._since
        self.failures += 1
        patience = self._patience.get(kind, PATIENCE_OTHERWISE)
        if self.given_up is None and self.troubled and now - self._since >= patience:
            self.give_up(kind, f"the last {self.failures} tries failed over {now - self._since:.0f} s: {detail}", now)

    def give_up(self, kind: ErrorKind, detail: str, now: float, seconds: float = PROBE_SECONDS) -> None:
        """Ask no more, for so many seconds at least."""
        self.given_up, self.detail = kind, detail
        self._probe_at = now + seconds

    def probe(self, now: float) -> bool:
        """Whether one request may find out if a model that was given up is back; at most one each PROBE_SECONDS."""
        if now < self._probe_at:
            return False
        self._probe_at = now + self.PROBE_SECONDS
        return True


def is_servers(kind: ErrorKind) -> bool:
    """Whether a failure may be the server's: it has not answered the request as such."""
    return kind not in FINAL_ERRORS and kind != "budget"
