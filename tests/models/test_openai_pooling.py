"""Rewards and embeddings from pooling servers."""

import asyncio
from typing import Any

import numpy as np
import pytest

from curate.errors import UsageError
from curate.models.completion import BadReply
from curate.models.openai_backend import Numbers, OpenAIEmbed, OpenAIReward, rows_of
from curate.models.spec import ModelSpec, Price
from tests.models import answers
from tests.models.server import ModelServer

TALK = ({"role": "user", "content": "Why is the sky blue?"}, {"role": "assistant", "content": "Rayleigh scattering."})
TEXTS = ["one", "two", "naïve 漢字", "one", ""]


def spec(server: ModelServer, **options: Any) -> ModelSpec:
    return ModelSpec(backend="openai", name="m", base_url=server.base_url, usd_per_mtok=Price(into=1.0), options=options)


def reward(server: ModelServer, talk: Any = TALK, **options: Any) -> Numbers:
    async def main() -> Numbers:
        model = OpenAIReward(spec(server, **options))
        try:
            return await model.send(talk)
        finally:
            await model.close()

    return asyncio.run(main())


def embed(server: ModelServer, texts: list[str], **options: Any) -> Numbers:
    async def main() -> Numbers:
        model = OpenAIEmbed(spec(server, **options))
        try:
            return await model.send(texts)
        finally:
            await model.close()

    return asyncio.run(main())


@pytest.mark.parametrize("page", ["classify", "pooling"])
@pytest.mark.parametrize("transport", ["fast", "sdk"])
def test_rewards_are_raw_and_those_of_the_whole_conversation(server: ModelServer, page: str, transport: str) -> None:
    found = reward(server, page=page, transport=transport)
    assert found.values is not None and found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, [[answers.raw_reward(list(TALK))]])
    assert found.prompt_tokens and found.cost_usd == pytest.approx(found.prompt_tokens / 1e6)
    assert server.log()["requests"][0]["path"] == f"/{page}"  # not below /v1


def test_rewards_of_a_prompt_and_its_response(server: ModelServer) -> None:
    found = reward(server, page="score")
    assert found.values is not None
    np.testing.assert_array_equal(found.values, [[answers.raw_reward((TALK[0]["content"], TALK[1]["content"]))]])
    assert reward(server, (TALK[0],), page="score").error == "request"


def test_a_page_that_is_not_there(server: ModelServer) -> None:
    with pytest.raises(UsageError, match="classify, pooling, score"):
        reward(server, page="rank")


@pytest.mark.parametrize("encoding", ["base64", "float"])
@pytest.mark.parametrize("disorder", [False, True])
def test_vectors_come_in_the_order_of_the_texts(server: ModelServer, encoding: str, disorder: bool) -> None:
    server.plan(disorder=disorder)
    found = embed(server, TEXTS, encoding=encoding)
    expected = np.array([answers.vector(text, answers.DIMENSIONS) for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert found.values is not None and found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.values[0], found.values[3])


def test_vectors_of_another_length(server: ModelServer) -> None:
    found = embed(server, TEXTS, dimensions=3)
    assert found.values is not None and found.values.shape == (5, 3)


def test_no_texts_are_not_sent(server: ModelServer) -> None:
    found = embed(server, [])
    assert found.values is not None and len(found.values) == 0
    assert server.counts()["count"] == 0


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429_seconds", "rate_limit"),
        ("500", "server"),
        ("cut", "connection"),
        ("half_json", "bad_reply"),
        ("wrong_json", "bad_reply"),
    ],
)
def test_faults_are_errors_of_all_items(server: ModelServer, fault: str, kind: str) -> None:
    server.plan(script=[fault], retry_after_s=0.5)
    found = embed(server, TEXTS)
    assert (found.values, found.error, found.retry_after) == (None, kind, 0.5 if fault == "429_seconds" else None)
    server.plan(script=[fault])
    assert reward(server).error == kind


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"index": 0, "v": [1.0]}], "1 of the 2"),
        ([{"index": 0, "v": [1.0]}, {"index": 0, "v": [1.0]}], "comes twice"),
        ([{"index": 0, "v": [1.0]}, {"index": 2, "v": [1.0]}], "not one of the 2"),
        ([{"index": 0, "v": [1.0]}, {"index": 1, "v": [1.0, 2.0]}], "1 and 2 numbers"),
        ([{"index": 0, "v": [1.0]}, {"index": 1, "v": ["x"]}], "data[1].v"),
        ([{"index": 0, "v": [1.0]}, {"index": 1, "v": "AAA"}], "data[1].v"),
        ([{"index": 0, "v": [1.0]}, {"index": 1, "v": []}], "data[1].v"),
        ([{"index": 0, "v": [1.0]}, {"index": 1, "v": [1e40]}], "data[1].v"),
        ([{"index": 0, "v": [1.0]}, {"index": 1}], "data[1].v"),
        ([{"index": 0, "v": [1.0]}, None], "data[1]"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_numbers_that_cannot_be_right_are_refused(rows: list[Any], words: str) -> None:
    with pytest.raises(BadReply) as problem:
        rows_of({"data": rows}, "v", 2)
    assert words in str(problem.value)
