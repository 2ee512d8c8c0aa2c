"""A recipe's models, ready to be called."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from curate.errors import StepError, UsageError
from curate.models.asking import Request
from curate.models.ledger import Ledger
from curate.models.session import BACKENDS, Session, identity_of
from curate.models.spec import Backend, ModelSpec, Price
from tests.models.server import ModelServer

ROOT = Path(__file__).parent.parent.parent
FAKE = ModelSpec(backend="fake", name="tiny")


def question(text: str) -> Request:
    return Request(messages=({"role": "user", "content": text},))


def on(server: ModelServer, **told: object) -> ModelSpec:
    return ModelSpec(backend="openai", name="m", base_url=server.base_url, **told)  # type: ignore[arg-type]


# -- chat


def test_a_fake_model_answers_and_the_ledger_says_for_which_step(tmp_path: Path) -> None:
    with Session({"policy": FAKE}, tmp_path) as session:
        (first,) = session.for_step("generate").chat("policy").reply([question("Why?")])
        (second,) = session.for_step("judge").chat("policy").reply([question("Why?")])
    assert first.text
    assert (first.text, second.from_ledger) == (second.text, True)
    (row,) = Ledger(tmp_path / "ledger").spent()
    assert row.step == "generate"


def test_models_are_asked_again_by_another_session_only_for_what_is_missing(tmp_path: Path) -> None:
    for count, kept in ((3, 0), (5, 3)):
        with Session({"policy": FAKE}, tmp_path) as session:
            replies = session.chat("policy").reply([question(f"number {n}") for n in range(count)])
            assert sum(reply.from_ledger for reply in replies) == kept
            assert session.statistics()["policy"].answered == count - kept


def test_two_keys_of_one_model_share_its_answers(tmp_path: Path) -> None:
    with Session({"one": FAKE, "two": FAKE}, tmp_path) as session:
        session.chat("one").reply([question("Why?")])
        assert session.chat("two").reply([question("Why?")])[0].from_ledger


def test_the_callers_options_reach_no_back_end_and_change_no_identity(tmp_path: Path) -> None:
    quick = ModelSpec(backend="fake", name="tiny", options={"max_concurrency": 2, "retry_seconds": 9, "words": 5})
    assert identity_of(quick) == identity_of(ModelSpec(backend="fake", name="tiny", options={"words": 5}))
    with Session({"policy": quick}, tmp_path) as session:
        assert session.chat("policy").reply([question("Why?")])[0].usable
        assert session.statistics()["policy"].limit == 2


# -- identity


def test_an_identity_holds_neither_address_nor_key(tmp_path: Path) -> None:
    spec = ModelSpec(
        backend="openai",
        name="m",
        revision="abc",
        base_url="http://secret.example/v1",
        api_key="sk-planted-secret",  # type: ignore[arg-type]
        options={"header.X-Key": "planted", "body.reasoning_effort": "low", "timeout_s": 3, "retries": 1},
    )
    with Session({"judge": spec}, tmp_path) as session:
        assert session.identity("judge") == {
            "name": "m",
            "revision": "abc",
            "kind": "chat",
            "options": {"body.reasoning_effort": "low"},
        }


def test_what_a_fake_says_never_passes_for_a_model_of_that_name() -> None:
    assert identity_of(FAKE) != identity_of(ModelSpec(backend="openai", name="tiny"))


# -- wrong use


def test_wrong_use_is_named(tmp_path: Path) -> None:
    local = ModelSpec(backend="vllm", name="y", options={"wings": 2})
    models = {"rm": ModelSpec(backend="fake", name="x", kind="reward"), "local": local}
    with Session(models, tmp_path) as session:
        with pytest.raises(UsageError, match="no model is called 'judge'; the recipe has rm, local"):
            session.chat("judge")
        with pytest.raises(UsageError, match="model rm is a reward model, but a step uses it as a chat model"):
            session.chat("rm")
        with pytest.raises(UsageError, match="options: backend vllm has no wings"):
            session.chat("local")
    assert set(BACKENDS) == set(get_args(Backend))


def test_a_faulty_option_or_a_budget_without_prices_is_found_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="model m, options, retries: expected a whole number from 0 up, got -1"):
        Session({"m": ModelSpec(backend="fake", name="x", options={"retries": -1})}, tmp_path)
    with pytest.raises(UsageError, match="--max-cost needs prices"):
        Session({"m": FAKE}, tmp_path, max_cost=1.0)
    with pytest.raises(UsageError, match="mode: only `batch`, with backend openai"):
        Session({"m": ModelSpec(backend="fake", name="x", options={"mode": "batch"})}, tmp_path)
    Session({"m": FAKE.model_copy(update={"usd_per_mtok": Price(out=1.0)})}, tmp_path, max_cost=1.0).close()


# -- rewards and embeddings


def test_rewards_are_numbers_and_failures_are_nan_with_their_reason(server: ModelServer, tmp_path: Path) -> None:
    conversations = [[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": f"Because {n}"}] for n in range(3)]
    with Session({"rm": on(server, kind="reward", options={"concurrency": 1, "max_concurrency": 1})}, tmp_path) as session:
        server.plan(script=["ok", "context_length", "500", "ok"])
        values, errors = session.reward("rm").score_or_error(conversations)
    assert values.shape == (3, 1)
    assert values.dtype == np.float32
    assert np.isnan(values[:, 0]).tolist() == [False, True, False]
    assert [error and error.split(":")[0] for error in errors] == [None, "request", None]


def test_embeddings_come_in_order_whatever_the_batches(server: ModelServer, tmp_path: Path) -> None:
    server.plan(share={"500": 0.3, "429": 0.2}, seed=3)
    texts = [f"text {n}" for n in range(10)]
    with Session({"e": on(server, kind="embed", options={"batch_size": 3})}, tmp_path) as session:
        vectors = session.embed("e").encode(texts)
        assert session.embed("e").encode([]).shape[0] == 0
    with Session({"e": on(server, kind="embed")}, tmp_path) as session:
        assert np.array_equal(vectors, session.embed("e").encode(texts))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)


def test_a_text_without_a_vector_stops_the_step(server: ModelServer, tmp_path: Path) -> None:
    server.plan(script=["context_length"])
    with Session({"e": on(server, kind="embed")}, tmp_path) as session, pytest.raises(StepError, match="1 of 1 calls"):
        session.embed("e").encode(["too long"])


# -- batch mode


def test_batch_mode_asks_everything_in_one_batch_and_keeps_the_replies(server: ModelServer, tmp_path: Path) -> None:
    server.plan(batch={"seconds": 0.1})
    requests = [question(f"number {n}") for n in range(40)]
    spec = on(server, options={"mode": "batch", "poll_seconds": 0.1})
    with Session({"m": spec}, tmp_path) as session:
        replies: list[object] = []
        shards = [threading.Thread(target=lambda s=s: replies.extend(session.chat("m").reply(requests[s::2]))) for s in (0, 1)]  # type: ignore[misc]
        for shard in shards:
            shard.start()
        for shard in shards:
            shard.join(30)
        assert len(replies) == 40
        assert session.statistics()["m"].answered == 40
    paths = [entry["path"] for entry in server.log()["requests"]]
    assert paths.count("/v1/batches") <= 3  # created once; listed to see whether it had been before
    assert not any(path.endswith("/chat/completions") for path in paths)
    with Session({"m": spec}, tmp_path) as session:
        assert all(reply.from_ledger for reply in session.chat("m").reply(requests))


# -- Ctrl-C

RUN = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args
from curate.models.asking import Request
from curate.models.session import Session
from curate.models.spec import ModelSpec
spec = ModelSpec(backend="openai", name="m", base_url=sys.argv[1], options={"max_concurrency": 8, "concurrency": 8})
def shard(n):
    return session.chat("m").reply([Request(messages=({"role": "user", "content": f"{n} {i}"},)) for i in range(500)])
with ThreadPoolExecutor(2) as pool, Session({"m": spec}, Path(sys.argv[2])) as session, session.interruptible():
    list(pool.map(shard, range(2)))
"""


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_keeps_what_is_in_flight_and_a_second_waits_no_longer(server: ModelServer, tmp_path: Path, presses: int) -> None:
    server.plan(latency_s=0.5 if presses == 1 else 20.0, words=[3, 8])
    process = subprocess.Popen([sys.executable, "-c", RUN, server.base_url, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE)
    while server.counts()["count"] < 8:
        time.sleep(0.02)
    began = time.monotonic()
    for _ in range(presses):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.3)
    process.communicate(timeout=10)
    assert time.monotonic() - began < 5
    assert process.returncode == -signal.SIGINT
    assert server.counts()["count"] == 8
    assert len(Ledger(tmp_path / "ledger")) == (8 if presses == 1 else 0)


def test_importing_a_session_stays_light() -> None:
    code = "import sys, curate.models.session; print(sorted({'openai', 'aiohttp', 'polars', 'datasets'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
