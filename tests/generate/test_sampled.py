"""What steps that draw texts share: asking ahead, and the same values put together faster."""

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import ids
from curate.generate.generate import Generate
from curate.generate.sampled import AT_ONCE, FIRST, PORTION, response_id_of
from curate.models.asking import Reply, Request, Sampling
from curate.models.replies import request_of
from curate.models.session import Session
from curate.models.spec import ModelSpec
from tests.generate.conftest import fakes, prompts

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
COUNT = 2 * PORTION + 1


def question(number: int) -> Request:
    return Request(({"role": "user", "content": f"question {number}"},))


@pytest.fixture
def session(tmp_path: Path):
    spec = ModelSpec(backend="fake", name="m", options={"concurrency": 256, "max_concurrency": 256})
    with Session({"a": spec, "b": spec}, tmp_path) as session:
        yield session


def test_the_first_requests_are_answered_while_others_are_put_together(session):
    step = Generate(model="a", name="g").with_models(session.for_step("g"))
    answered = threading.Event()

    def wanted():
        for number in range(COUNT):
            if number == COUNT - 1:  # the first portion was handed over before the last request exists
                answered.wait(20) or pytest.fail("nothing was asked yet")
            yield "a", question(number)

    def watch():
        while len(session.ledger) < PORTION:
            if gone.wait(0.01):
                return
        answered.set()

    gone = threading.Event()
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        assert len(step.ask(wanted())) == COUNT
    finally:
        gone.set()
        watching.join()


def test_replies_keep_the_order_of_requests_to_several_models(session):
    step = Generate(model=["a", "b"], name="g").with_models(session.for_step("g"))
    wanted = list(zip(itertools.cycle("aab"), map(question, range(COUNT)), strict=False))
    alone = {key: iter(session.chat(key).reply([request for name, request in wanted if name == key])) for key in "ab"}
    assert [reply.text for reply in step.ask(wanted)] == [next(alone[key]).text for key, _ in wanted]


class Events:
    """A model that takes requests without being waited for, and what happened in which order."""

    def __init__(self):
        self.told = []

    def chat(self, key):
        return self

    def begin(self, requests):
        self.told.append(("asked", len(requests)))
        return Coming(self, [Reply(text=request.messages[0]["content"]) for request in requests])

    def reply(self, requests):
        return self.begin(requests).replies()

    def disown(self, requests):
        """Nothing is kept here."""


class Coming:
    def __init__(self, events, replies):
        self.events, self.come = events, replies

    def replies(self):
        self.events.told.append(("came", len(self.come)))
        return self.come


def asked_ahead(count):
    """What happened, and the texts of the replies."""
    events, texts = Events(), []
    step = Generate(model="a", name="g").with_models(events)
    for replies in step.ask_ahead(("a", question(number)) for number in range(count)):
        events.told.append(("used", len(replies)))
        texts += [reply.text for reply in replies]
    return events.told, texts


def test_few_requests_leave_first_and_more_after_them():
    told, _ = asked_ahead(COUNT)
    sizes = [count for event, count in told if event == "asked"]
    assert sizes[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert max(sizes) <= PORTION and sum(sizes) == COUNT


@pytest.mark.parametrize("count", [1, FIRST, FIRST + 1, COUNT, AT_ONCE + 1, 3 * AT_ONCE])
def test_replies_are_used_once_and_in_order(count):
    assert asked_ahead(count)[1] == [f"question {number}" for number in range(count)]


def test_what_came_is_used_before_the_last_portion_is_waited_for():
    told, _ = asked_ahead(3 * AT_ONCE)
    *_, before, last, used = told
    assert (before[0], last[0], used) == ("used", "came", ("used", last[1]))
    assert last[1] <= PORTION


def test_replies_are_used_many_together_and_not_all():
    used = [count for event, count in asked_ahead(5 * AT_ONCE)[0] if event == "used"]
    assert all(AT_ONCE <= count < AT_ONCE + PORTION for count in used[:-2])


def test_portions_of_prompts_are_asked_and_kept_like_one(made):
    table = prompts(*(f"question {number}" for number in range(5 * PORTION + 3)))
    step = Generate(model="a", name="g").with_models(fakes(a={"refuse_share": 0.1}))
    whole = step(table)
    parts = [step(table.slice(start, 700)) for start in range(0, table.num_rows, 700)]
    assert made(whole) == [row for part in parts for row in made(part)]
    assert whole.flags.to_pylist() == [flags for part in parts for flags in part.flags.to_pylist()]


@given(TEXT, st.none() | TEXT, st.none() | st.integers(0), st.lists(TEXT, max_size=2))
def test_the_id_of_a_response_is_that_of_its_values(prompt, response, seed, about):
    named = ids.response_id(prompt, response, "m", seed, 3, *about)
    assert response_id_of(prompt, response, "m", seed, 3, *about) == named


def test_a_request_made_in_quantity_is_an_ordinary_one():
    messages, sampling = ({"role": "user", "content": "x"},), Sampling(temperature=0.5)
    assert request_of(messages, sampling, 7, 2) == Request(messages, sampling, 7, 2)
