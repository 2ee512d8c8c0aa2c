"""What steps that draw texts share: asking ahead, and the same values put together faster."""

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import ids, tables
from curate.generate.generate import Generate
from curate.generate.sampled import PORTION, messages_of, response_id_of, without_nulls
from curate.models.asking import Request, Sampling
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


@pytest.mark.parametrize("more", [{}, {"name": "Ann"}, {"tool_calls": '[{"id":"1"}]'}, {"content": None}])
def test_messages_are_read_as_servers_take_them(more):
    rows = [[], [{"role": "user", "content": "a"}, {"role": "user", "content": "b", **more}], [{"role": "user", "content": "c"}]]
    table = tables.from_rows([{"prompt": row} for row in [*rows, None, rows[1]]], "prompts")
    expected = [[without_nulls(message) for message in row or []] for row in table["prompt"].to_pylist()]
    assert messages_of(table["prompt"]) == expected
    assert messages_of(table.slice(2)["prompt"]) == expected[2:]


def test_a_request_made_in_quantity_is_an_ordinary_one():
    messages, sampling = ({"role": "user", "content": "x"},), Sampling(temperature=0.5)
    assert request_of(messages, sampling, 7, 2) == Request(messages, sampling, 7, 2)
