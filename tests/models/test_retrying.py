"""What holds a model back, and for how long."""

import random

from curate.models.limits import LONGEST_PAUSE, TROUBLED, Circuit, Rules
from curate.models.retrying import Hold


def a_hold() -> tuple[Hold, Circuit]:
    circuit = Circuit(down_seconds=30.0)
    return Hold(Rules(), circuit, random.Random(7)), circuit


def fail(hold: Hold, circuit: Circuit, times: int) -> None:
    for now in range(times):
        circuit.failed("server", "broken", now, now)
        hold.failed("server", "broken", None, now)


def test_a_model_that_fails_now_and_then_is_not_held_back() -> None:
    hold, circuit = a_hold()
    fail(hold, circuit, TROUBLED - 1)
    assert hold.wait(TROUBLED) <= 0
    assert not hold.alive()


def test_a_model_that_answers_nobody_rests_until_it_answers() -> None:
    hold, circuit = a_hold()
    fail(hold, circuit, TROUBLED)
    assert hold.wait(TROUBLED - 1) > 0
    assert hold.alive()
    assert hold.wait(TROUBLED - 1) <= 0
    assert not hold.alive()


def test_a_pause_that_the_server_asks_for_is_kept_also_when_it_answers_meanwhile() -> None:
    hold, _ = a_hold()
    hold.failed("rate_limit", "slow down", 20.0, 100.0)
    hold.alive()
    assert hold.wait(105.0) == 15.0


def test_a_pause_that_is_too_long_gives_the_model_up() -> None:
    hold, circuit = a_hold()
    hold.failed("rate_limit", "tomorrow", LONGEST_PAUSE + 1, 0.0)
    assert circuit.given_up == "rate_limit"
    assert hold.wait(0.0) == LONGEST_PAUSE
