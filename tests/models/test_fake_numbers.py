"""Fake reward and embedding models: numbers that follow the quality, the length or the words of a text."""

import asyncio

import numpy as np
import pytest

from curate.models.fake_numbers import FakeEmbed, FakeReward
from tests.models.test_fake import BAD, GOOD, spec


def conversation(text):
    return [{"role": "user", "content": "What is rain?"}, {"role": "assistant", "content": text}]


def test_rewards_follow_the_quality():
    scores = FakeReward(spec(heads=2)).score([conversation(GOOD), conversation(BAD), []])
    assert scores.shape == (3, 2) and scores.dtype == np.float32
    assert (scores[0] > 1).all() and (scores[1] < -1).all() and np.isnan(scores[2]).all()
    again = asyncio.run(FakeReward(spec(heads=2)).send(conversation(GOOD)))
    assert again.values.tolist() == scores[:1].tolist()


def test_rewards_may_be_named_and_one_called_verbosity_follows_the_length() -> None:
    texts = [conversation("precisely thoroughly " * times) for times in (8, 16, 64)]
    found = FakeReward(spec(heads="helpfulness, verbosity", noise=0.0)).score(texts)
    assert found.shape == (3, 2)
    assert found[0, 0] == found[1, 0] == found[2, 0]  # careful words alone, however many
    assert found[0, 1] < found[1, 1] < found[2, 1]


def test_two_reward_models_err_apart():
    texts = [conversation(f"It precisely rains {number}. It maybe falls.") for number in range(200)]
    first, second = (FakeReward(spec(name, noise=1.0)).score(texts)[:, 0] for name in "ab")
    assert np.std(first) == pytest.approx(1.0, abs=0.2)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


def test_vectors_are_of_unit_length_and_near_for_shared_words():
    vectors = FakeEmbed(spec()).encode(["rain falls on the town", "rain falls on the city", "nine old ships", ""])
    assert vectors.shape == (4, 64) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    assert vectors[0] @ vectors[1] > 0.6 > vectors[0] @ vectors[2]
    assert FakeEmbed(spec()).encode([]).shape == (0, 64)
    assert asyncio.run(FakeEmbed(spec()).send(["nine old ships"])).values.tolist() == vectors[2:3].tolist()
