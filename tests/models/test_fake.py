"""Fake models: what they say follows from what they are asked, and carries a quality that fake judges read back."""

import asyncio

import numpy as np
import pytest

from curate.models.asking import Request, Sampling
from curate.models.fake import FakeBackend, tokens_of
from curate.models.fake_draws import Draw
from curate.models.fake_settings import answer_options
from curate.models.fake_writing import compose, read_quality
from curate.models.spec import ModelSpec, Price

GOOD = "It precisely rains. It exactly falls. It carefully stops."
BAD = "It maybe rains. It somehow falls. It vaguely stops."
MIXED = "It precisely rains. It exactly falls. It maybe stops."


def spec(name="m", **options):
    return ModelSpec(backend="fake", name=name, options=options)


def asked(text="What is rain?", system=None, **more):
    messages = ({"role": "system", "content": system},) if system else ()
    return Request((*messages, {"role": "user", "content": text}), **more)


def answers(model, *requests):
    backend = FakeBackend(model)

    async def all_of_them():
        return [(await backend.send(request)).reply for request in requests]

    return asyncio.run(all_of_them())


def answer(model, request):
    return answers(model, request)[0]


# -- writing


def test_the_same_request_has_the_same_answer_everywhere():
    text = answer(spec(), asked(seed=1)).text
    assert text == answer(spec(), asked(seed=1)).text
    others = [asked(seed=2), asked(seed=1, sample=1), asked("What is snow?", seed=1)]
    assert len({text, *(answer(spec(), request).text for request in others), answer(spec("n"), asked(seed=1)).text}) == 5


def test_an_answer_is_golden():
    """Datasets of fake models are compared between machines: change this text only with their names."""
    expected = "The value precisely predicts the hidden network. In short, the table kinda covers the small garden."
    assert answer(spec(words=12, sprinkle=0), asked(seed=1)).text == expected


def test_speed_and_failures_leave_the_words_alone():
    plain = answer(spec(), asked(seed=1)).text
    assert answers(spec(fail_share=0.5, delay_s=0.001), *[asked(seed=1)] * 9)[-1].text in (plain, None)
    assert answer_options(spec(fail_share=0.5, delay_s=0.001, words=9, concurrency=4)) == {"words": 9}


def test_length_is_as_told():
    lengths = [len(reply.text.split()) for reply in answers(spec(words=100), *(asked(seed=seed) for seed in range(100)))]
    assert 85 < np.mean(lengths) < 125 and min(lengths) > 40 and max(lengths) < 200


def test_quality_is_as_told_and_read_back():
    for quality in (0.2, 0.8):
        replies = answers(spec(quality=quality, spread=0.1, words=200), *(asked(seed=seed) for seed in range(50)))
        assert abs(np.mean([read_quality(reply.text) for reply in replies]) - quality) < 0.05


@pytest.mark.parametrize("quality", [0.0, 0.25, 0.5, 1.0])
def test_a_text_carries_its_quality(quality):
    assert read_quality(compose(Draw("x"), 160, quality, (), 0.2)) == pytest.approx(quality, abs=0.03)


def test_what_lowers_a_quality():
    assert read_quality(GOOD) == 1.0 and read_quality(BAD) == 0.0
    assert read_quality(GOOD[:-1]) == 0.8  # cut off
    assert read_quality(f"{GOOD} {GOOD}") == 0.5  # said twice
    assert read_quality("  ") == 0.0
    assert 0 <= read_quality("Nothing to tell by.") == read_quality("Nothing to tell by.") <= 1


def test_a_reply_longer_than_max_tokens_is_cut():
    whole = answer(spec(), asked(seed=1))
    cut = answer(spec(), asked(seed=1, sampling=Sampling(max_tokens=10)))
    assert (cut.finish_reason, cut.response_tokens) == ("length", 10)
    assert whole.text.startswith(cut.text) and whole.finish_reason == "stop"
    assert "".join(tokens_of(whole.text)) == whole.text and len(tokens_of(whole.text)) == whole.response_tokens


def test_a_share_of_replies_is_long_winded():
    requests = [asked(seed=seed, sampling=Sampling(max_tokens=150)) for seed in range(200)]
    assert not any(reply.finish_reason == "length" for reply in answers(spec(words=40), *requests))
    cut = np.mean([reply.finish_reason == "length" for reply in answers(spec(words=40, truncate_share=0.5), *requests)])
    assert 0.2 < cut < 0.5


def test_stop_sequences_end_a_reply():
    reply = answer(spec(), asked(seed=1, sampling=Sampling(stop=("the",))))
    whole = answer(spec(), asked(seed=1)).text
    assert reply.text == whole[: whole.index("the")] and reply.finish_reason == "stop"


def test_a_sum_has_a_result_right_as_often_as_told():
    replies = answers(spec(wrong_share=0.3), *(asked("What is 17 + 25?", seed=seed) for seed in range(300)))
    right = np.mean([reply.text.endswith("The answer is 42.") for reply in replies])
    assert abs(right - 0.7) < 0.08


def test_reasoning_beside_or_within_the_text():
    assert answer(spec(), asked()).reasoning is None
    assert answer(spec(reasoning=True), asked()).reasoning
    assert answer(spec(reasoning="tags"), asked()).text.startswith("<think>\n")


def test_tokens_cost_what_the_model_costs():
    model = ModelSpec(backend="fake", name="m", usd_per_mtok=Price(into=1.0, out=2.0))
    reply = answer(model, asked())
    assert reply.cost_usd == pytest.approx((reply.prompt_tokens + 2 * reply.response_tokens) / 1e6)
    assert answer(spec(), asked()).cost_usd is None


# -- failing


def test_failures_are_drawn_for_each_try():
    requests = [asked(seed=seed) for seed in range(200)]
    model = FakeBackend(spec(fail_share=0.3))

    async def tries():
        return [[(await model.send(request)).reply.error for _ in range(4)] for request in requests]

    first, *_ = zip(*(told := asyncio.run(tries())), strict=True)
    assert set(first) == {"server", None}
    assert 0.2 < np.mean([error == "server" for error in first]) < 0.4
    assert sum(all(row) for row in told) < 10  # trying again helps


def test_rate_limits_say_how_long_to_wait():
    attempt = asyncio.run(FakeBackend(spec(fail_share=1.0, fail_kind="rate_limit")).send(asked()))
    assert (attempt.reply.error, attempt.retry_after) == ("rate_limit", 0.0)


def test_refusals_stay():
    requests = [asked(seed=seed) for seed in range(100)]
    model = spec(refuse_share=0.4)
    refused = [reply.error for reply in answers(model, *requests)]
    assert set(refused) == {"refused", None} and refused == [reply.error for reply in answers(model, *requests)]
