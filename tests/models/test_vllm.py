"""A chat model in vLLM's own process: answers, marks, log-probabilities, faults, and a process that is killed."""

import json
import math
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate import tables
from curate.models.asking import LikelihoodRequest, Request, Sampling
from curate.models.ledger_care import export
from curate.models.session import Session, identity_of
from curate.models.spec import ModelSpec
from curate.score.judge import Judge
from tests import tiny
from tests.models.vllms import need_vllm, spec, workers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_vllm()
    return tiny.chat_model(tmp_path_factory.mktemp("tiny") / "chat", positions=4096)


@pytest.fixture(scope="module")
def session(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One engine for this module."""
    with Session({"m": spec(folder)}, tmp_path_factory.mktemp("store")) as made:
        yield made


def ask(text: str, *, seed: int | None = None, sample: int = 0, max_tokens: int = 12, **more: Any) -> Request:
    told = {name: more.pop(name) for name in ("logprobs", "temperature", "stop") if name in more}
    return Request(({"role": "user", "content": text},), Sampling(max_tokens=max_tokens, **told), seed, sample, **more)


def calls(session: Session) -> int:
    return session.statistics()[""].calls


def test_samples_differ_by_seed_and_come_again_with_it(session: Session, folder: Path, tmp_path: Path) -> None:
    four = [ask("Tell me something", seed=7 + sample, sample=sample, temperature=1.0) for sample in range(4)]
    first = [reply.text for reply in session.chat("m").reply(four)]
    assert len(set(first)) == 4
    before = calls(session)
    assert [reply.text for reply in session.chat("m").reply(four)] == first
    assert calls(session) == before  # from the ledger
    again = [Request(one.messages, one.sampling, one.seed, one.sample + 10) for one in four]
    assert [reply.text for reply in session.chat("m").reply(again)] == first  # anew, by the same seeds


def test_what_is_in_the_ledger_starts_no_engine(session: Session, folder: Path) -> None:
    request = ask("Once", seed=1)
    [first] = session.chat("m").reply([request])
    with Session({"other": spec(folder)}, session.root) as later:
        [again] = later.chat("other").reply([request])
        assert (again.text, again.from_ledger) == (first.text, True)
        assert later._backends["other", "chat"].engine.starts == 0


def test_a_request_that_cannot_be_answered_is_an_error_of_its_own(session: Session) -> None:
    good = ask("Short", seed=3)
    bad = [Request((), Sampling(max_tokens=4)), ask("long " * 9000), ask("half a pair \ud800")]
    replies = session.chat("m").reply([bad[0], good, bad[1], bad[2]])
    assert [reply.error for reply in replies] == ["request", None, "request", "request"]
    assert "4096" in (replies[2].detail or "")


def test_seeded_prompts_that_fill_more_than_one_step_end_nothing(session: Session) -> None:
    before = session._backend("m", "chat").engine.starts
    requests = [ask("word " * 400 + str(i), seed=i, max_tokens=4) for i in range(12)]
    assert [reply.error for reply in session.chat("m").reply(requests)] == [None] * 12
    assert session._backend("m", "chat").engine.starts == before or before == 0


def test_log_probabilities_are_those_of_the_text(session: Session) -> None:
    [reply] = session.chat("m").reply([ask("Say", seed=5, logprobs=3, temperature=0.0)])
    assert reply.logprobs is not None and len(reply.logprobs) == reply.response_tokens == 12
    for row in reply.logprobs:
        assert len(row["top"]) <= 3 and math.isclose(row["logprob"], max(row["top"].values()))  # greedy: the likeliest


def test_an_answer_ends_before_a_stop_sequence(session: Session) -> None:
    request = ask("Go", seed=11, max_tokens=40)
    [whole] = session.chat("m").reply([request])
    stop = (whole.text or "")[6:8]
    [cut] = session.chat("m").reply([ask("Go", seed=11, max_tokens=40, stop=(stop,))])
    assert cut.text == (whole.text or "").split(stop)[0] and cut.finish_reason == "stop"


def test_a_random_model_judges_in_the_form_it_is_asked_for(session: Session) -> None:
    rows = tables.from_rows(
        [
            {"prompt_id": "q", "prompt": [{"role": "user", "content": "q"}], "response": f"a {i}", "response_id": str(i)}
            for i in range(6)
        ],
        "responses",
    )
    judge = Judge(model="m", rubric="helpfulness", rationale=False, max_tokens=60, name="marks")
    scores = judge.with_models(session.for_step("marks"))(rows)["scores"].to_pylist()
    assert [len(row) for row in scores] == [1] * 6
    assert [row[0]["error"] for row in scores] == [None] * 6
    assert all(1 <= row[0]["value"] <= 10 for row in scores)


def test_a_schema_is_kept_to(session: Session) -> None:
    schema = {
        "type": "object",
        "properties": {"better": {"enum": ["A", "B", "tie"]}, "sure": {"type": "boolean"}},
        "required": ["better", "sure"],
        "additionalProperties": False,
    }
    asked = [ask("Which?", seed=i, sample=i, max_tokens=60, response_format={"name": "v", "schema": schema}) for i in range(5)]
    for reply in session.chat("m").reply(asked):
        found = json.loads(reply.text or "")
        assert found["better"] in ("A", "B", "tie") and isinstance(found["sure"], bool)


CONVERSATIONS = [
    ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": answer})
    for answer in ["Fine, thanks.", "\n leading space", "answer", "42 " * 60, "مرحبا 🙂"]
]


def test_likelihoods_equal_those_of_transformers(session: Session, folder: Path, tmp_path: Path) -> None:
    requests = [LikelihoodRequest(messages) for messages in CONVERSATIONS]
    ours = session.likelihood("m").logprobs(requests)
    with Session({"t": ModelSpec(backend="transformers", name=str(folder))}, tmp_path) as other:
        theirs = other.likelihood("t").logprobs(requests)
    for mine, its in zip(ours, theirs, strict=True):
        assert not isinstance(mine, str) and not isinstance(its, str)
        assert mine.values.shape == its.values.shape and np.abs(mine.values - its.values).max() < 1e-2
        assert mine.ends is not None and its.ends is not None and (mine.ends == its.ends).all()


def test_an_answer_too_long_to_measure_is_an_error_of_its_own(session: Session) -> None:
    long = ({"role": "user", "content": "x"}, {"role": "assistant", "content": "word " * 9000})
    found = session.likelihood("m").totals([LikelihoodRequest(messages) for messages in (CONVERSATIONS[0], long, ())])
    assert np.isnan(found.sums).tolist() == [False, True, True]
    assert [error and error.split(":")[0] for error in found.errors] == [None, "request", "request"]


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_asked_twice(folder: Path, tmp_path: Path) -> None:
    requests = [ask(f"Story {i}", seed=i, max_tokens=100) for i in range(150)]
    with Session({"m": spec(folder, max_num_seqs=16)}, tmp_path) as session:
        backend = session._backend("m", "chat")
        killed: list[int] = []

        def kill_midway() -> None:
            while session.statistics()["m"].answered < 20:
                time.sleep(0.01)
            killed.append(backend.engine.pid)
            os.kill(killed[0], signal.SIGKILL)

        chat = session.chat("m")
        killer = threading.Thread(target=kill_midway)
        killer.start()
        replies = chat.reply(requests)
        killer.join()
        assert all(reply.usable for reply in replies) and backend.engine.starts == 2
        assert session.statistics()["m"].calls == 150
        session.rest()
        assert not Path(f"/proc/{killed[0]}").exists() and backend.engine.pid is None
        session.ledger.sync()
        out = tmp_path / "all.jsonl"
        export(tmp_path / "ledger", out)
        seeds = Counter(json.loads(line)["request"]["seed"] for line in out.read_text().splitlines())
        assert seeds == Counter(range(150))


def test_two_copies_share_the_requests_and_an_adapter_changes_them(session: Session, folder: Path, tmp_path: Path) -> None:
    requests = [ask(f"Word {i}", temperature=0.0) for i in range(24)]
    plain = [reply.text for reply in session.chat("m").reply(requests)]
    options = {"data_parallel_size": 2, "lora": str(tiny.adapter(tmp_path / "lora")), "max_num_seqs": 4}
    told = spec(folder, **options)
    assert identity_of(told, "chat") != identity_of(spec(folder), "chat")
    with Session({"m": told}, tmp_path) as other:
        replies = other.chat("m").reply(requests)
        assert all(reply.usable for reply in replies) and [reply.text for reply in replies] != plain
        assert [engine.starts for engine in other._backend("m", "chat").engines] == [1, 1]
    assert not workers()


def test_an_engine_that_cannot_load_says_why_with_its_log(tmp_path: Path) -> None:
    need_vllm()
    empty = tmp_path / "empty"
    empty.mkdir()
    with Session({"m": spec(empty)}, tmp_path / "store") as session:
        replies = session.chat("m").reply([ask("a"), ask("b")])
        assert {reply.error for reply in replies} == {"engine"}
        assert "config" in (replies[0].detail or "") and "\n" in (replies[0].detail or "")
    assert not workers()


def test_a_model_without_a_chat_template_is_refused_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    tiny.without_template(shutil.copytree(folder, tmp_path / "bare"))
    with Session({"m": spec(tmp_path / "bare")}, tmp_path / "store") as session:
        [reply] = session.chat("m").reply([ask("a")])
    assert reply.error == "engine" and (reply.detail or "").startswith("the model has no chat template")
    assert "\n" not in (reply.detail or "")


def test_a_model_of_the_hub_is_called_as_on_a_server(tmp_path: Path) -> None:
    ours = ModelSpec(backend="vllm", name="org/model", options={"max_num_seqs": 4})
    server = ModelSpec(backend="openai", name="org/model", base_url="http://localhost:1/v1")
    assert identity_of(ours, "chat") == identity_of(server, "chat")
    told = {"body.chat_template_kwargs.enable_thinking": False}
    changed = [identity_of(spec.model_copy(update={"options": told}), "chat") for spec in (ours, server)]
    assert changed[0] == changed[1] != identity_of(ours, "chat")
    (tmp_path / "config.json").write_text("{}")
    first = identity_of(spec(tmp_path), "chat")
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert identity_of(spec(tmp_path), "chat") != first  # trained again in place: another model
