"""How fast a model may be asked: its provider's limits, as many at once as it answers well, and when to stop trying."""

import math
import random
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from curate.errors import UsageError
from curate.models.asking import ErrorKind

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
    poll_seconds: float = 30.0
    """Between looks at a batch, with `mode: batch`; batches take minutes to a day."""

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

    A round is as many replies as may be in flight. Until the first trouble the limit grows by half with each round,
    afterwards by its square root up to near where the trouble was, and from there by one. It grows while the median latency
    stays within STEADY of the best, or while more gets done for it; a step that did not pay is taken back. Latency twice the
    best, with less done, lowers it by 0.7. Latency is seconds a token, a reply counting at least BASE tokens, so that longer
    answers do not pass for a slower server.

    429s and timeouts lower it at once, by half their share of what was in flight with them: all of them halve it, a lone one
    out of hundreds is no reason to. Source: DCTCP (Alizadeh et al. 2010, "Data Center TCP", equation 2).

    The best is measured anew every so often by a round of half as many (as BBR does: Cardwell et al. 2016, "ProbeRTT").
    """

    BASE = 50
    """Tokens that a reply's fixed costs (queue, prompt, network) are worth."""
    FEWEST = 4
    """Replies in the shortest round."""
    STEADY = 1.3
    RISING = 2.0
    NOISE = 0.002
    """Seconds a token, and so a tenth of a second a reply: what this machine adds by itself when it is busy."""
    PAYS = 0.3
    """Share of the expected gain that a raised limit must bring."""
    TRY_ROUNDS = 10
    """Rounds after which a limit that was kept is raised to see."""
    PROBE_ROUNDS = 50

    def __init__(self, start: int, most: int) -> None:
        self._limit = float(min(start, most))
        self._most = float(most)
        self._trouble_at = 0.0
        """The limit at which there was trouble; 0 before any."""
        self._before = self._together = self._failures = 0.0
        """Of the latest requests that failed together: the limit before, how many were in flight, how many failed."""
        self._rounds = 0
        self._round_since = self._lowered_at = -math.inf
        self._unit_seconds: list[float] = []
        self._units = 0.0
        self._full = False
        self._best = math.inf
        self._top_rate = 0.0
        self._raised_from: tuple[float, float] | None = None
        """(limit, rate) before the latest round's limit was raised."""
        self._lowered_for: float | None = None
        """The latency for which the limit was lowered before the latest round."""
        self._probed_from: float | None = None
        """The limit to go back to after a round of half as many."""

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        return int(self._limit)

    def answered(self, sent_at: float, now: float, tokens: int | None, in_flight: int) -> None:
        """A reply came; in_flight counts it."""
        self._full |= in_flight >= self.limit
        if sent_at < self._round_since:
            return  # asked under an earlier limit: it says nothing about this one
        if self._round_since == -math.inf:
            self._round_since = sent_at
        units = max(tokens or 0, 0) + self.BASE
        self._unit_seconds.append((now - sent_at) / units)
        self._units += units
        if len(self._unit_seconds) >= max(self.limit, self.FEWEST):
            self._end_round(now)

    def failed(self, kind: ErrorKind, sent_at: float, now: float, in_flight: int) -> None:
        """A try failed, of so many that were or might have been in flight. Only 429 and timeouts say that it is too much."""
        if kind not in ("rate_limit", "timeout"):
            return
        if sent_at >= self._lowered_at:
            self._before, self._together, self._failures = self._limit, float(in_flight), 0.0
            self._raised_from = self._probed_from = self._lowered_for = None
            self._troubled(now)
            self._start_round(now)
        self._failures += 1
        share = min(1.0, self._failures / max(self._together, 1.0))
        self._limit = max(1.0, min(self._limit, self._before * (1 - share / 2)))

    def _end_round(self, now: float) -> None:
        latency = statistics.median(self._unit_seconds)
        rate = self._units / max(now - self._round_since, 1e-9)
        self._rounds += 1
        raised_from, self._raised_from = self._raised_from, None
        lowered_for, self._lowered_for = self._lowered_for, None
        self._best = min(self._best, latency)
        steady = latency <= self.STEADY * self._best + self.NOISE
        if self._probed_from is not None:
            self._limit, self._probed_from = self._probed_from, None
            self._best, self._top_rate = latency, 0.0
        elif lowered_for is not None and latency > 0.9 * lowered_for:
            self._best, self._top_rate = latency, rate  # fewer did not help: it has become slower for another reason
        elif raised_from is not None and not steady and not self._paid(raised_from, rate):
            self._trouble_at, self._limit = self._limit, raised_from[0]
        elif latency > self.RISING * self._best + self.NOISE and rate < 0.9 * self._top_rate:
            self._lowered_for = latency
            self._troubled(now)
            self._limit = max(1.0, self._limit * 0.7)
        elif self._rounds % self.PROBE_ROUNDS == 0 and self._limit >= 2:
            self._probed_from, self._limit = self._limit, self._limit / 2
        elif self._full and (steady or raised_from is not None or self._rounds % self.TRY_ROUNDS == 0):
            self._raise(rate)
        self._top_rate = max(self._top_rate, rate)
        self._start_round(now)

    def _paid(self, before: tuple[float, float], rate: float) -> bool:
        """Whether a raised limit got more done."""
        limit, earlier = before
        return rate >= earlier * (1 + self.PAYS * (self._limit / limit - 1))

    def _raise(self, rate: float) -> None:
        if not self._trouble_at:
            step = self._limit / 2
        else:
            step = math.sqrt(self._limit) if self._limit < 0.8 * self._trouble_at else 1.0
        if self._limit < self._most:
            self._raised_from = (self._limit, rate)
            self._limit = min(self._most, self._limit + max(1.0, step))

    def _troubled(self, now: float) -> None:
        self._trouble_at = max(self._limit, 0.9 * self._trouble_at)
        self._lowered_at = now

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
        self.rounds = 0
        """Failures in a row, those in flight together counted once."""
        self._since = self._round_at = 0.0
        self._probe_at = 0.0
        self.given_up: ErrorKind | None = None
        self.detail = ""

    @property
    def troubled(self) -> bool:
        """Whether to ask one thing at a time."""
        return self.failures >= TROUBLED

    def alive(self) -> None:
        """It answered, if only to say no."""
        self.failures = self.rounds = 0
        self.given_up = None

    def failed(self, kind: ErrorKind, detail: str | None, sent_at: float, now: float) -> None:
        """A try failed in a way that may be the server's and not the request's."""
        self._since = now if not self.failures else self._since
        if not self.rounds or sent_at >= self._round_at:
            self.rounds += 1
            self._round_at = now
        self.failures += 1
        patience = self._patience.get(kind, PATIENCE_OTHERWISE)
        if self.given_up is None and self.troubled and now - self._since >= patience:
            self.give_up(kind, f"the last {self.failures} tries failed over {now - self._since:.0f} s: {detail}", now)

    def give_up(self, kind: ErrorKind, detail: str, now: float, seconds: float = PROBE_SECONDS) -> None:
        """Ask no more, for so many seconds at least."""
        self.given_up, self.detail = kind, detail
        self._probe_at = now + seconds

    def try_again(self, now: float) -> None:
        """Ask again, one request at a time until one is answered, with all the patience there is."""
        self.given_up, self._since = None, now

    def probe(self, now: float) -> bool:
        """Whether one request may find out if a model that was given up is back; at most one each PROBE_SECONDS."""
        if now < self._probe_at:
            return False
        self._probe_at = now + self.PROBE_SECONDS
        return True
