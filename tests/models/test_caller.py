"""The caller: ledger first, then the model, again what failed, and never twice what was answered."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from curate.models.asking import Attempt, ErrorKind, Reply, Request, Sampling
from curate.models.caller import Caller
from curate.models.jobs import Stopped, characters
from curate.models.lane import Lane
from curate.models.ledger import Ledger
from curate.models.limits import Rules
from curate.models.spec import Price

IDENTITY = {"name": "m", "revision": None, "kind": "chat"}
ANSWER = Reply(text="yes", finish_reason="stop", prompt_tokens=10, response_tokens=2)
QUICK = Rules(retries=7)


def question(text: str, **settings: object) -> Request:
    return Request(messages=({"role": "user", "content": text},), **settings)  # type: ignore[arg-type]


def questions(count: int, of: str = "question") -> list[Request]:
    return [question(f"{of} {number}") for number in range(count)]


def text_of(request: Request) -> str:
    return str(request.messages[0]["content"])


class Model:
    """Answers what it is told to; remembers what it was asked."""

    def __init__(self, answer: Callable[[Request, int], Attempt] | None = None, delay: float = 0.0) -> None:
        self.answer = answer or (lambda request, tries: Attempt(Reply(**{**ANSWER.__dict__, "text": text_of(request)})))
        self.delay = delay
        self.asked: Counter[str] = Counter()
        self.at: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.closed = False
        self.go = threading.Event()
        self.go.set()

    async def send(self, request: Request) -> Attempt:
        self.asked[text_of(request)] += 1
        self.at.append(time.monotonic())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay)
            while not self.go.is_set():
                await asyncio.sleep(0.005)
        finally:
            self.in_flight -= 1
        return self.answer(request, self.asked[text_of(request)])

    async def close(self) -> None:
        self.closed = True


def failing(times: int, kind: ErrorKind, retry_after: float | None = None) -> Callable[[Request, int], Attempt]:
    """Fails so many times, then answers."""

    def answer(request: Request, tries: int) -> Attempt:
        if tries <= times:
            return Attempt(Reply(error=kind, detail="no luck"), retry_after)
        return Attempt(ANSWER)

    return answer


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger")
    yield ledger
    ledger.close()


@pytest.fixture
def caller(ledger: Ledger) -> Iterator[Caller]:
    caller = Caller(ledger, seed=7)
    yield caller
    caller.close(grace=1)


def lane_of(caller: Caller, model: Model, rules: Rules = QUICK, price: Price | None = None) -> Lane:
    return caller.lane("m", model, IDENTITY, rules, price)


def errors(replies: Sequence[Reply]) -> Counter[str | None]:
    return Counter(reply.error for reply in replies)


def wait_for(what: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.002)


# -- order, ledger, single flight


def test_replies_come_in_the_order_of_the_requests_however_long_each_takes(caller: Caller) -> None:
    class Uneven(Model):
        async def send(self, request: Request) -> Attempt:
            await asyncio.sleep(0.02 if text_of(request).endswith("0") else 0.0)
            return await super().send(request)

    asked = questions(2500)
    replies = caller.ask(lane_of(caller, Uneven()), asked)
    assert [reply.text for reply in replies] == [text_of(request) for request in asked]


def test_no_requests_no_replies(caller: Caller) -> None:
    assert caller.ask(lane_of(caller, Model()), []) == []


def test_what_was_answered_is_not_asked_again(caller: Caller) -> None:
    model = Model()
    lane = lane_of(caller, model)
    caller.ask(lane, questions(10))
    replies = caller.ask(lane, questions(12))
    assert sum(model.asked.values()) == 12
    assert [reply.from_ledger for reply in replies] == [True] * 10 + [False] * 2
    assert caller.statistics()["m"].from_ledger == 10


def test_every_reply_is_in_the_ledger_before_it_is_handed_over(caller: Caller, ledger: Ledger) -> None:
    lane = lane_of(caller, Model(lambda request, _: Attempt(ANSWER)))
    caller.ask(lane, [question("one")])
    (kept,) = ledger.find([ledger.key(IDENTITY, question("one"))], [None])
    assert kept is not None
    assert kept.text == "yes"


def test_a_failure_is_recorded_and_asked_again_by_the_next_run(caller: Caller, ledger: Ledger) -> None:
    model = Model(failing(1, "request"))
    lane = lane_of(caller, model)
    assert caller.ask(lane, [question("one")])[0].error == "request"
    assert caller.ask(lane, [question("one")])[0].text == "yes"
    assert model.asked["one"] == 2


def test_equal_requests_of_one_batch_are_asked_once_and_paid_once(caller: Caller) -> None:
    model = Model(delay=0.01)
    replies = caller.ask(lane_of(caller, model), [question("one"), question("two"), question("one")])
    assert model.asked == {"one": 1, "two": 1}
    assert [reply.text for reply in replies] == ["one", "two", "one"]
    assert [reply.from_ledger for reply in replies] == [False, False, True]


def test_equal_requests_of_several_threads_are_asked_once(caller: Caller) -> None:
    model = Model(delay=0.002)
    lane = lane_of(caller, model)
    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lambda _: caller.ask(lane, questions(400)), range(8)))
    assert set(model.asked.values()) == {1}
    assert len(model.asked) == 400
    assert all([reply.text for reply in replies] == [text_of(one) for one in questions(400)] for replies in told)


def test_samples_of_one_prompt_are_requests_of_their_own(caller: Caller) -> None:
    model = Model()
    caller.ask(lane_of(caller, model), [question("one", sample=number) for number in range(4)])
    assert model.asked["one"] == 4


def test_threads_share_the_limit_of_a_model(caller: Caller) -> None:
    model = Model(delay=0.005)
    lane = lane_of(caller, model, Rules(concurrency=4, max_concurrency=4))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda thread: caller.ask(lane, questions(20, f"thread {thread}")), range(4)))
    assert model.most_in_flight == 4


def test_one_slow_answer_does_not_hold_up_the_others(caller: Caller) -> None:
    class OneSlow(Model):
        async def send(self, request: Request) -> Attempt:
            await asyncio.sleep(0.6 if text_of(request) == "slow 0" else 0.0)
            return await super().send(request)

    lane, model = None, OneSlow()
    lane = lane_of(caller, model, Rules(concurrency=2, max_concurrency=2))
    slow = threading.Thread(target=caller.ask, args=(lane, questions(1, "slow")))
    slow.start()
    began = time.monotonic()
    caller.ask(lane, questions(100))
    assert time.monotonic() - began < 0.5
    slow.join()


def test_what_cannot_be_sent_is_an_error_in_its_place(caller: Caller) -> None:
    replies = caller.ask(lane_of(caller, Model()), [question("one"), question("lone \ud800 surrogate"), question("two")])
    assert [(reply.text, reply.error) for reply in replies] == [("one", None), (None, "request"), ("two", None)]


# -- retries


@pytest.mark.parametrize("kind", ["rate_limit", "timeout", "connection", "server", "bad_reply"])
def test_what_may_go_away_is_tried_again(caller: Caller, kind: ErrorKind) -> None:
    model = Model(failing(2, kind))
    (reply,) = caller.ask(lane_of(caller, model), [question("one")])
    assert reply.text == "yes"
    assert model.asked["one"] == 3
    assert caller.statistics()["m"].retries == 2
    assert caller.statistics()["m"].faults == {kind: 2}
    assert caller.statistics()["m"].errors == {}


@pytest.mark.parametrize("kind", ["request", "refused", "engine"])
def test_what_stays_is_tried_once(caller: Caller, kind: ErrorKind) -> None:
    model = Model(failing(99, kind))
    (reply,) = caller.ask(lane_of(caller, model), [question("one")])
    assert (reply.error, reply.detail, model.asked["one"]) == (kind, "no luck", 1)


def test_a_request_ends_when_its_tries_are_used_up_and_says_how_many(caller: Caller) -> None:
    model = Model(failing(99, "server"))
    (reply,) = caller.ask(lane_of(caller, model, Rules(retries=2)), [question("one")])
    assert (reply.error, reply.detail) == ("server", "no luck (after 3 tries)")
    assert model.asked["one"] == 3


def test_replies_that_cannot_be_read_are_paid_for_three_times_at_most(caller: Caller) -> None:
    model = Model(failing(99, "bad_reply"))
    (reply,) = caller.ask(lane_of(caller, model), [question("one")])
    assert (reply.error, model.asked["one"]) == ("bad_reply", 3)


def test_retry_after_is_waited_for_in_full(caller: Caller) -> None:
    model = Model(failing(1, "server", retry_after=0.3))
    caller.ask(lane_of(caller, model), [question("one")])
    assert model.at[1] - model.at[0] >= 0.3


def test_a_429_with_retry_after_pauses_the_whole_model(caller: Caller) -> None:
    model = Model(lambda request, tries: Attempt(Reply(error="rate_limit"), 0.3) if len(model.at) == 1 else Attempt(ANSWER))
    caller.ask(lane_of(caller, model, Rules(concurrency=1, max_concurrency=1)), questions(5))
    assert all(at - model.at[0] >= 0.3 for at in model.at[1:])


def test_a_429_does_not_use_up_tries_but_time(caller: Caller) -> None:
    patient, hurried = Model(failing(5, "rate_limit", 0.0)), Model(failing(99, "rate_limit", 0.4))
    assert caller.ask(caller.lane("a", patient, {"name": "a"}, Rules(retries=0)), [question("one")])[0].text == "yes"
    (reply,) = caller.ask(caller.lane("b", hurried, {"name": "b"}, Rules(retry_seconds=0.5)), [question("one")])
    assert reply.error == "rate_limit"
    assert reply.detail is not None
    assert reply.detail.startswith("no luck (after 2 tries in 0 s")


def test_a_server_that_asks_for_an_hour_is_not_waited_for(caller: Caller) -> None:
    model = Model(failing(99, "rate_limit", 3600.0))
    replies = caller.ask(lane_of(caller, model), questions(100))
    assert errors(replies) == {"rate_limit": 100}
    assert sum(model.asked.values()) <= 16
    (trouble,) = caller.troubles()
    assert "the server asks to wait 3600 s" in trouble
    assert "100 requests are left for the next run" in trouble


# -- a model that is not there


def test_a_dead_server_fails_the_rest_quickly_and_is_asked_again_when_it_is_back(caller: Caller) -> None:
    dead = True
    model = Model(lambda request, _: Attempt(Reply(error="connection", detail="refused")) if dead else Attempt(ANSWER))
    lane = lane_of(caller, model, Rules(down_seconds=0.5))
    began = time.monotonic()
    replies = caller.ask(lane, questions(5000))
    assert time.monotonic() - began < 5
    assert errors(replies) == {"connection": 5000}
    assert sum(model.asked.values()) < 100
    (trouble,) = caller.troubles()
    assert trouble.startswith("model m was given up (connection: the last ")
    assert trouble.endswith("5,000 requests are left for the next run")
    again = caller.ask(lane, questions(10, "later"))
    assert errors(again) == {"connection": 10}
    dead = False
    lane.circuit._probe_at = 0.0  # as if the time had passed
    caller.ask(lane, questions(1, "probe"))
    assert errors(caller.ask(lane, questions(50))) == {None: 50}


def test_a_short_outage_costs_no_request_its_tries(caller: Caller) -> None:
    until = time.monotonic() + 1.0
    refused = Attempt(Reply(error="connection", detail="refused"))
    model = Model(lambda request, _: refused if time.monotonic() < until else Attempt(ANSWER))
    replies = caller.ask(lane_of(caller, model, Rules(retries=3)), questions(300))
    assert errors(replies) == {None: 300}
    assert max(model.asked.values()) <= 12


def test_a_wrong_key_is_noticed_after_a_few_calls(caller: Caller) -> None:
    model = Model(failing(99, "engine"))
    assert errors(caller.ask(lane_of(caller, model), questions(1000))) == {"engine": 1000}
    assert sum(model.asked.values()) <= 40


# -- limits


def test_requests_a_minute_are_kept(caller: Caller) -> None:
    model = Model()
    caller.ask(lane_of(caller, model, Rules(requests_per_minute=1200)), questions(20))
    assert model.at[-1] - model.at[0] >= 0.9
    assert all(sum(start <= at < start + 0.5 for at in model.at) <= 11 for start in model.at)


def test_tokens_a_minute_are_kept_by_what_replies_say(caller: Caller) -> None:
    """Each takes 100 tokens, at 6,000 a minute: one a second, whatever the estimate said."""
    model = Model(lambda request, _: Attempt(Reply(text="yes", prompt_tokens=60, response_tokens=40)))
    lane = lane_of(caller, model, Rules(tokens_per_minute=60_000, concurrency=1, max_concurrency=1))
    caller.ask(lane, [question(f"question {n}", sampling=Sampling(max_tokens=20)) for n in range(12)])
    assert model.at[-1] - model.at[0] >= 0.1 * 10


def test_concurrency_falls_at_once_on_429_and_recovers(caller: Caller) -> None:
    rejecting = True
    model = Model(
        lambda request, _: Attempt(Reply(error="rate_limit"), 0.05) if rejecting else Attempt(ANSWER),
        delay=0.002,
    )
    lane = lane_of(caller, model, Rules(concurrency=64))
    asking = threading.Thread(target=caller.ask, args=(lane, questions(3000)))
    asking.start()
    wait_for(lambda: lane.concurrency.limit <= 4, 15)
    rejecting = False
    wait_for(lambda: lane.limit >= 16, 10)
    asking.join()


# -- budget


def test_max_calls_is_never_passed_and_the_rest_says_so(caller: Caller, ledger: Ledger) -> None:
    frugal = Caller(ledger, max_calls=30)
    model = Model(delay=0.005)
    replies = frugal.ask(frugal.lane("m", model, IDENTITY), questions(100))
    assert errors(replies) == {None: 30, "budget": 70}
    assert sum(model.asked.values()) == 30
    assert frugal.troubles() == ["--max-calls 30 is reached; 70 requests are left for the next run"]
    assert errors(frugal.ask(frugal.lane("m", model, IDENTITY), questions(40)))["budget"] >= 10
    frugal.close()
    more = Caller(ledger)
    assert errors(more.ask(more.lane("m", model, IDENTITY), questions(100))) == {None: 100}
    assert sum(model.asked.values()) == 100
    more.close()


def test_retries_count_as_calls(ledger: Ledger) -> None:
    caller = Caller(ledger, max_calls=2)
    (reply,) = caller.ask(caller.lane("m", Model(failing(99, "server")), IDENTITY), [question("one")])
    assert (reply.error, caller.budget.calls) == ("budget", 2)
    caller.close()


@pytest.mark.parametrize("response_tokens", [50, 1000, 4000])
def test_max_cost_is_passed_by_no_more_than_the_calls_in_flight(ledger: Ledger, response_tokens: int) -> None:
    """Estimates say 1,000 tokens a reply until the model's own usage tells."""
    each = response_tokens * 10 / 1e6
    caller = Caller(ledger, max_cost=100 * each)
    model = Model(lambda request, _: Attempt(Reply(text="yes", response_tokens=response_tokens, cost_usd=each)), delay=0.002)
    lane = caller.lane("m", model, IDENTITY, Rules(concurrency=8, max_concurrency=8), Price(out=10.0))
    replies = caller.ask(lane, questions(400))
    answered = errors(replies)[None]
    assert 95 <= answered <= 108
    assert errors(replies)["budget"] == 400 - answered
    assert caller.budget.spent == pytest.approx(answered * each)
    caller.close()


def test_a_call_without_usage_counts_as_estimated(ledger: Ledger) -> None:
    caller = Caller(ledger, max_cost=0.1)
    lane = caller.lane("m", Model(lambda request, _: Attempt(Reply(text="yes"))), IDENTITY, QUICK, Price(out=10.0))
    assert errors(caller.ask(lane, questions(50)))[None] in (9, 10)
    caller.close()


# -- stopping


def test_stop_lets_calls_in_flight_finish_and_keeps_them(caller: Caller, ledger: Ledger) -> None:
    model = Model()
    model.go.clear()
    lane = lane_of(caller, model, Rules(concurrency=4, max_concurrency=4))
    problem: list[BaseException] = []
    asking = threading.Thread(target=lambda: problem.append(pytest.raises(Stopped, caller.ask, lane, questions(100)).value))
    asking.start()
    wait_for(lambda: model.in_flight == 4)
    caller.stop(grace=5)
    time.sleep(0.05)
    model.go.set()
    asking.join(5)
    assert isinstance(problem[0], Stopped)
    assert sum(model.asked.values()) == 4
    keys = [ledger.key(IDENTITY, one) for one in questions(100)]
    assert sum(reply is not None for reply in ledger.find(keys, [None] * 100)) == 4
    with pytest.raises(Stopped):
        caller.ask(lane, questions(1))


@pytest.mark.parametrize("stops", [1, 2])
def test_a_stop_waits_no_longer_than_its_grace_and_a_second_not_at_all(caller: Caller, stops: int) -> None:
    model = Model()
    model.go.clear()
    lane = lane_of(caller, model)
    asking = threading.Thread(target=pytest.raises, args=(Stopped, caller.ask, lane, questions(100)))
    asking.start()
    wait_for(lambda: model.in_flight > 0)
    for _ in range(stops):
        caller.stop(grace=0.5 if stops == 1 else 60)
    asking.join(3)
    assert not asking.is_alive()


def test_close_waits_for_what_is_in_flight_and_closes_the_back_end(caller: Caller, ledger: Ledger) -> None:
    model = Model(delay=0.2)
    lane = lane_of(caller, model)
    asking = threading.Thread(target=caller.ask, args=(lane, questions(3)))
    asking.start()
    wait_for(lambda: model.in_flight == 3)
    caller.close()
    asking.join(1)
    assert model.closed
    assert None not in ledger.find([ledger.key(IDENTITY, one) for one in questions(3)], [None] * 3)


def test_a_fault_of_the_program_is_raised_to_everybody_who_waits(caller: Caller) -> None:
    def broken(request: Request, tries: int) -> Attempt:
        raise ZeroDivisionError("a mistake in a back end")

    with pytest.raises(ZeroDivisionError):
        caller.ask(lane_of(caller, Model(broken)), questions(50))
    with pytest.raises(ZeroDivisionError):
        caller.ask(lane_of(caller, Model(broken)), questions(1))


# -- telling


def test_statistics_tell_how_it_goes(caller: Caller) -> None:
    model = Model(lambda request, _: Attempt(Reply(text="yes", prompt_tokens=10, response_tokens=5, cost_usd=0.01)), delay=0.1)
    lane = lane_of(caller, model, Rules(concurrency=10, max_concurrency=10))
    asking = threading.Thread(target=caller.ask, args=(lane, questions(100)))
    asking.start()
    wait_for(lambda: caller.statistics()["m"].answered >= 50)
    now = caller.statistics()["m"]
    assert now.in_flight == 10
    assert now.waiting == 100 - now.answered
    left = now.seconds_left()
    assert left is not None
    assert 0.1 < left < 2.0
    asking.join()
    end = caller.statistics()[""]
    assert (end.answered, end.waiting, end.calls, end.prompt_tokens, end.response_tokens) == (100, 0, 100, 1000, 500)
    assert end.cost_usd == pytest.approx(1.0)
    assert end.seconds_left() == 0.0


def test_characters_are_counted_wherever_text_stands() -> None:
    request = Request(messages=({"role": "user", "content": [{"type": "text", "text": "four"}]},))
    assert characters(request) == len("role") + len("user") + len("content") + len("type") + len("text") * 2 + len("four")


def test_requests_that_were_handed_over_are_waited_for_later(caller: Caller) -> None:
    model = Model()
    model.go.clear()
    asked = [caller.begin(lane_of(caller, model), questions(3, of=name)) for name in "ab"]
    wait_for(lambda: len(model.asked) == 6)
    model.go.set()
    assert [[reply.text for reply in one.replies()] for one in asked] == [[f"{name} {n}" for n in range(3)] for name in "ab"]
    assert caller.begin(lane_of(caller, model), []).replies() == []


def test_answers_that_nobody_waits_for_are_kept(caller: Caller, ledger: Ledger) -> None:
    model = Model()
    caller.begin(lane_of(caller, model), questions(5))
    wait_for(lambda: len(ledger) == 5)
    assert all(reply.from_ledger for reply in caller.ask(lane_of(caller, model), questions(5)))
    assert model.asked.total() == 5


def test_a_stop_is_told_to_who_waits_after_it(caller: Caller) -> None:
    model = Model()
    model.go.clear()
    asked = caller.begin(lane_of(caller, model), questions(3))
    wait_for(lambda: len(model.asked) == 3)
    caller.stop(grace=0)
    with pytest.raises(Stopped):
        asked.replies()
