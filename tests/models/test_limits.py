"""How fast a model may be asked."""

import random

import pytest

from curate.errors import UsageError
from curate.models.asking import ErrorKind
from curate.models.limits import LONGEST_WAIT, TROUBLED, Circuit, Concurrency, Pace, Rules, backoff


def rounds(
    concurrency: Concurrency, count: int, latency: float, capacity: int = 10**6, now: float = 0.0, tokens: int = 100
) -> float:
    """Keep as many in flight as allowed for so many rounds, on a server that queues beyond its capacity; the time after."""
    for _ in range(count):
        limit = concurrency.limit
        took = latency * max(1.0, limit / capacity)
        for _ in range(max(limit, Concurrency.FEWEST)):  # all sent now, all answered at once
            concurrency.answered(now, now + took, tokens, limit)
        now += took + 1e-6
    return now


# -- rules


def test_rules_are_read_from_a_models_options() -> None:
    rules = Rules.of({"requests_per_minute": 60, "retries": 2, "timeout_s": 5, "concurrency": None})
    assert (rules.requests_per_minute, rules.retries, rules.concurrency) == (60.0, 2, 16)


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("concurrency", 0, "options, concurrency: expected a whole number from 1 up, got 0"),
        ("max_concurrency", 2.5, "options, max_concurrency: expected a whole number from 1 up, got 2.5"),
        ("retries", True, "options, retries: expected a whole number from 0 up, got True"),
        ("retry_seconds", "long", "options, retry_seconds: expected a number from 0 up, got 'long'"),
        ("tokens_per_minute", 0, "options, tokens_per_minute: 0 would ask nothing; leave it out for no limit"),
    ],
)
def test_rules_without_sense_are_refused_by_name(option: str, value: object, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        Rules.of({option: value}, "judge")
    assert str(caught.value) == f"model judge, {problem}"


# -- backoff


def test_backoff_is_drawn_from_a_bound_that_doubles_up_to_a_longest() -> None:
    jitter = random.Random(0)
    longest = [max(backoff(tries, jitter) for _ in range(500)) for tries in (1, 2, 3, 30)]
    assert longest == [pytest.approx(bound, rel=0.05) for bound in (0.5, 1.0, 2.0, LONGEST_WAIT)]
    assert min(backoff(1, jitter) for _ in range(500)) < 0.05


# -- pace


def test_a_pace_spreads_what_goes_and_stays_within_any_minute() -> None:
    pace, now, went = Pace(120), 1000.0, []
    while now < 1180.0:
        now += max(pace.wait(now), 0.001)
        if not pace.wait(now):
            pace.take(1, now)
            went.append(now)
    assert all(later - earlier > 0.4 for earlier, later in zip(went, went[1:], strict=False))
    most = max(sum(start <= at < start + 60 for at in went) for start in went)
    assert 118 <= most <= 120


def test_a_pace_is_corrected_by_what_really_went() -> None:
    pace = Pace(60)
    pace.take(1, 0.0)
    pace.correct(9)
    assert pace.wait(0.0) == pytest.approx(10, rel=0.01)


def test_no_pace_never_waits() -> None:
    pace = Pace(None)
    pace.take(10**9, 0.0)
    assert pace.wait(0.0) == 0.0


# -- concurrency


def test_concurrency_rises_to_the_most_while_replies_stay_as_quick() -> None:
    concurrency = Concurrency(16, 256)
    rounds(concurrency, 8, latency=1.0)
    assert concurrency.limit == 256


def test_concurrency_stays_where_nothing_more_is_waiting() -> None:
    concurrency = Concurrency(16, 256)
    for at in range(200):
        concurrency.answered(float(at), at + 0.5, 100, in_flight=3)
    assert concurrency.limit == 16


@pytest.mark.parametrize("kind", ["rate_limit", "timeout"])
def test_429s_and_timeouts_lower_it_at_once_and_halve_it_once_where_all_fail(kind: ErrorKind) -> None:
    concurrency, limits = Concurrency(64, 256), []
    for left in range(64, 0, -1):
        concurrency.failed(kind, sent_at=0.0, now=1.0, in_flight=left)
        limits.append(concurrency.limit)
    assert limits[:4] == [63, 63, 62, 62]
    assert limits[-1] == 32
    concurrency.failed(kind, sent_at=1.5, now=2.0, in_flight=1)
    assert concurrency.limit == 16


def test_a_lone_timeout_among_hundreds_changes_little() -> None:
    concurrency = Concurrency(256, 256)
    concurrency.failed("timeout", 0.0, 1.0, in_flight=256)
    assert concurrency.limit == 255


def test_it_never_falls_below_one_and_recovers_slowly() -> None:
    concurrency, limits = Concurrency(16, 256), []
    for at in range(7):
        concurrency.failed("rate_limit", at + 0.5, at + 0.6, in_flight=1)
    assert concurrency.limit == 1
    now = 20.0
    for _ in range(6):
        now = rounds(concurrency, 1, 1.0, now=now)
        limits.append(concurrency.limit)
    assert limits == [2, 3, 5, 7, 8, 9]


def test_a_server_error_says_nothing_about_concurrency() -> None:
    concurrency = Concurrency(64, 256)
    concurrency.failed("server", 0.0, 1.0, in_flight=64)
    assert concurrency.limit == 64


def test_it_settles_near_the_capacity_of_a_server_that_queues() -> None:
    concurrency, limits, now = Concurrency(16, 1000), [], 0.0
    for _ in range(200):
        now = rounds(concurrency, 1, 1.0, capacity=64, now=now)
        limits.append(concurrency.limit)
    assert 64 <= sum(limits[50:]) / 150 <= 160
    assert max(limits[50:]) <= 220


def test_slower_replies_that_get_more_done_are_welcome() -> None:
    """A server that works in batches: twice the requests take half as long again."""
    concurrency, now = Concurrency(16, 256), 0.0
    for _ in range(30):
        now = rounds(concurrency, 1, latency=concurrency.limit**0.58, now=now)
    assert concurrency.limit == 256


def test_rising_latency_lowers_it() -> None:
    concurrency = Concurrency(64, 64)
    now = rounds(concurrency, 5, 1.0)
    rounds(concurrency, 1, 5.0, now=now)
    assert concurrency.limit == 44


def test_longer_answers_are_no_rising_latency() -> None:
    concurrency = Concurrency(64, 64)
    now = rounds(concurrency, 5, 1.0, tokens=100)
    rounds(concurrency, 5, 14.0, now=now, tokens=2000)
    assert concurrency.limit == 64


# -- circuit


def test_a_server_that_refuses_every_connection_is_given_up_after_its_time() -> None:
    circuit = Circuit(down_seconds=30)
    for second in range(30):
        circuit.failed("connection", "refused", float(second), float(second))
    assert circuit.troubled
    assert circuit.given_up is None
    circuit.failed("connection", "refused", 30.0, 30.0)
    assert circuit.given_up == "connection"
    assert circuit.detail == "the last 31 tries failed over 30 s: refused"


def test_one_answer_in_between_starts_the_count_again() -> None:
    circuit = Circuit(down_seconds=1)
    for second in range(100):
        circuit.failed("connection", "refused", float(second), float(second))
        if second % 5 == 0:
            circuit.alive()
    assert circuit.given_up is None


def test_a_wrong_key_is_given_up_at_once_and_errors_of_a_server_after_minutes() -> None:
    wrong_key, errors = Circuit(30), Circuit(30)
    for second in range(TROUBLED):
        wrong_key.failed("engine", "invalid_api_key", float(second), float(second))
        errors.failed("server", "HTTP 500", 61.0 * second, 61.0 * second)
    assert wrong_key.given_up == "engine"
    assert errors.given_up is None
    errors.failed("server", "HTTP 500", 601.0, 601.0)
    assert errors.given_up == "server"


def test_a_model_that_was_given_up_is_probed_now_and_then() -> None:
    circuit = Circuit(30)
    circuit.give_up("connection", "refused", now=100.0)
    assert [circuit.probe(at) for at in (101.0, 106.0, 107.0, 112.0)] == [False, True, False, True]
    circuit.alive()
    assert circuit.given_up is None
