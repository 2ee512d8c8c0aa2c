"""What a run may spend on model calls, what it has spent, and how fast it goes."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from curate.models.asking import ErrorKind, Reply
from curate.models.spec import Price

CHARACTERS_A_TOKEN = 4.0
"""Until a model's own usage tells: English text and most tokenizers."""
TOKENS_A_REPLY = 1000.0
"""Until a model's own usage tells, where a request has no max_tokens."""
SPAN = 10
"""Seconds that rates are taken over."""


class Usage:
    """What a model's requests turn out to need, to estimate the next ones by; each reply weighs a twentieth."""

    WEIGHT = 0.05

    def __init__(self, price: Price | None) -> None:
        self.price = price
        self._characters_a_token = CHARACTERS_A_TOKEN
        self._response: float | None = None

    def prompt_tokens(self, characters: int) -> float:
        """Tokens of a prompt, estimated."""
        return characters / self._characters_a_token

    def response_tokens(self, limit: int | None) -> float:
        """Tokens of a response, estimated: until there were any, the most there can be."""
        if self._response is None:
            return float(limit) if limit is not None else TOKENS_A_REPLY
        return min(self._response, float(limit)) if limit is not None else self._response

    def cost(self, characters: int, limit: int | None) -> float:
        """US dollars of a request, estimated; 0 without a price."""
        if self.price is None:
            return 0.0
        return (self.prompt_tokens(characters) * self.price.into + self.response_tokens(limit) * self.price.out) / 1e6

    def learn(self, characters: int, reply: Reply) -> None:
        """Take a reply's own count."""
        if reply.prompt_tokens and characters:
            self._characters_a_token += self.WEIGHT * (characters / reply.prompt_tokens - self._characters_a_token)
        if reply.response_tokens is not None:
            before = self._response
            self._response = (
                float(reply.response_tokens) if before is None else before + self.WEIGHT * (reply.response_tokens - before)
            )


class Budget:
    """What may still be asked under --max-cost and --max-calls.

    Every call sent counts, retries too. A call's estimated cost is reserved while it is in flight, and where the limit is
    near, the next waits until those in flight have told what they cost: what is spent exceeds the limit by no more than the
    calls in flight cost above their estimates. Once reached, it stays reached.
    """

    def __init__(self, max_cost: float | None = None, max_calls: int | None = None) -> None:
        self.max_cost = max_cost
        self.max_calls = max_calls
        self.spent = 0.0
        """US dollars."""
        self.calls = 0
        self.reached: str | None = None
        """Which limit, in words; None while there is room."""
        self._reserved = 0.0
        self._in_flight = 0

    def room(self, cost: float) -> Literal["yes", "wait", "no"]:
        """Whether a call of this estimated cost may be sent."""
        if self.reached is not None:
            return "no"
        if self.max_calls is not None and self.calls >= self.max_calls:
            self.reached = f"--max-calls {self.max_calls:,} is reached"
            return "no"
        if self.max_cost is None or self.spent + self._reserved + cost <= self.max_cost:
            return "yes"
        if self._in_flight and self.spent < self.max_cost:
            return "wait"
        self.reached = f"--max-cost {self.max_cost:g} USD is reached: {self.spent:.4f} spent, the next call about {cost:.4f}"
        return "no"

    def sent(self, cost: float) -> None:
        """A call goes out; its estimated cost is reserved."""
        self.calls += 1
        self._in_flight += 1
        self._reserved += cost

    def settled(self, cost: float, paid: float | None) -> None:
        """A call came back. paid: what it cost; None if it does not say and failed calls are free."""
        self._in_flight -= 1
        self._reserved = self._reserved - cost if self._in_flight else 0.0
        self.spent += paid or 0.0


@dataclass(frozen=True)
class Statistics:
    """How the calls of a run, or of one of its models, stand."""

    calls_a_second: float = 0.0
    """Calls that came back over the last ten seconds, failed ones too."""
    tokens_in_a_second: float = 0.0
    tokens_out_a_second: float = 0.0
    waiting: int = 0
    """Requests that were handed over and have no reply yet, those in flight included."""
    in_flight: int = 0
    limit: int = 0
    """Requests that may be in flight now."""
    calls: int = 0
    """Calls sent, retries included."""
    answered: int = 0
    """Requests answered by a model in this run."""
    from_ledger: int = 0
    """Requests answered from the ledger, or together with an equal one."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Requests that ended without an answer, by kind."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """Calls that failed, by kind; most of their requests are answered by a later try."""
    retries: int = 0
    cost_usd: float = 0.0
    prompt_tokens: int = 0
    response_tokens: int = 0

    def seconds_left(self, requests: int | None = None) -> float | None:
        """Seconds that so many more requests (those waiting, if not given) take at the current rate; None if nothing moves."""
        left = self.waiting if requests is None else requests
        if not left:
            return 0.0
        # a request takes as many calls as requests have taken so far
        done = self.answered + sum(self.errors.values())
        calls_each = self.calls / done if done else 1.0
        return left * calls_each / self.calls_a_second if self.calls_a_second else None


class Meter:
    """Counts the calls to one model. Written by one thread, read by any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._seconds: deque[list[int]] = deque(maxlen=SPAN + 1)
        """[second, calls, tokens in, tokens out], the newest last."""
        self.calls = self.answered = self.from_ledger = self.retries = self.prompt_tokens = self.response_tokens = 0
        self.cost = 0.0
        self.errors: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    def came_back(self, reply: Reply, now: float) -> None:
        """A call ended."""
        second, asked, answered = int(now), reply.prompt_tokens or 0, reply.response_tokens or 0
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0, 0])
        latest = self._seconds[-1]
        latest[1] += 1
        latest[2] += asked
        latest[3] += answered
        self.prompt_tokens += asked
        self.response_tokens += answered
        self.cost += reply.cost_usd or 0.0
        if reply.error is not None:
            self.faults[reply.error] += 1

    def ended(self, error: ErrorKind | None) -> None:
        """A request has its reply."""
        if error is None:
            self.answered += 1
        else:
            self.errors[error] += 1

    def shared(self, error: ErrorKind | None) -> None:
        """A request has the reply of an equal one that was in flight."""
        if error is None:
            self.from_ledger += 1
        else:
            self.errors[error] += 1

    def read(self, waiting: int, in_flight: int, limit: int) -> Statistics:
        """All of it, now."""
        now = self._clock()
        recent = [row for row in tuple(self._seconds) if now - row[0] < SPAN]
        span = max(min(SPAN, now - self._began), 1.0)
        calls, asked, answered = (sum(row[place] for row in recent) / span for place in (1, 2, 3))
        return Statistics(
            calls_a_second=calls,
            tokens_in_a_second=asked,
            tokens_out_a_second=answered,
            waiting=waiting,
            in_flight=in_flight,
            limit=limit,
            calls=self.calls,
            answered=self.answered,
            from_ledger=self.from_ledger,
            errors=dict(self.errors),
            faults=dict(self.faults),
            retries=self.retries,
            cost_usd=self.cost,
            prompt_tokens=self.prompt_tokens,
            response_tokens=self.response_tokens,
        )


def total(parts: Mapping[str, Statistics]) -> Statistics:
    """All models together."""
    added: dict[str, float | int | dict[str, int]] = {}
    for name in Statistics.__dataclass_fields__:
        values = [getattr(part, name) for part in parts.values()]
        if name in ("errors", "faults"):
            added[name] = dict(sum((Counter(value) for value in values), Counter()))
        else:
            added[name] = sum(values)
    return Statistics(**added)  # type: ignore[arg-type]
