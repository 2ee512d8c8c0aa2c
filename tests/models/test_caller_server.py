"""The caller, the ledger and the openai back end against a server that fails on demand."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from curate.models.asking import Reply, Request
from curate.models.session import Session
from curate.models.spec import ModelSpec
from tests.models.server import ModelServer

FAULTS = {
    "429": 0.02,
    "429_seconds": 0.02,
    "500": 0.03,
    "502": 0.02,
    "503_seconds": 0.01,
    "hang": 0.005,
    "cut": 0.02,
    "reset": 0.02,
}
FAULTS |= {"half_json": 0.02, "wrong_json": 0.01, "empty_choices": 0.01, "chunked_cut": 0.005, "slow": 0.005, "huge": 0.0005}
FAULTS |= {"error_200": 0.005, "refusal": 0.0045}
"""A fifth of all tries."""
ROOT = Path(__file__).parent.parent.parent


def spec(server: ModelServer, **options: Any) -> ModelSpec:
    return ModelSpec(backend="openai", name="m", base_url=server.base_url, options={"timeout_s": 2.0, **options})


def questions(count: int, of: str = "question") -> list[Request]:
    return [Request(messages=({"role": "user", "content": f"{of} {number}"},)) for number in range(count)]


def errors(replies: Sequence[Reply]) -> Counter[str | None]:
    return Counter(reply.error for reply in replies)


def asked(server: ModelServer) -> list[Mapping[str, Any]]:
    """The log of chat requests."""
    return [one for one in server.log()["requests"] if one["path"].endswith("/chat/completions")]


def usable(entry: Mapping[str, Any]) -> bool:
    """Whether the server delivered a whole answer."""
    return bool(entry["delivered"]) and entry["status"] == 200 and entry["fault"] in ("ok", "slow", "huge", "gzip", "chunked")


@pytest.mark.slow
def test_five_thousand_requests_through_a_fifth_of_faults(server: ModelServer, tmp_path: Path) -> None:
    server.plan(share=FAULTS, retry_after_s=0.05, slow_s=0.3, huge_bytes=10_000_000, words=[3, 8], seed=11)
    requests = questions(5000)
    with Session({"m": spec(server)}, tmp_path) as session, ThreadPoolExecutor(4) as shards:
        parts = list(shards.map(session.chat("m").reply, [requests[start : start + 1250] for start in range(0, 5000, 1250)]))
        statistics = session.statistics()["m"]
    replies = [reply for part in parts for reply in part]
    assert all((reply.text is None) != (reply.error is None) for reply in replies)
    assert errors(replies)[None] >= 4950
    assert set(errors(replies)) <= {None, "refused", "bad_reply"}
    log = asked(server)
    assert statistics.calls == len(log) > 5900
    answers = Counter(entry["sha256"] for entry in log if usable(entry))
    assert max(answers.values()) == 1, "an answer was asked for twice"

    server.reset()
    failed = 5000 - errors(replies)[None]
    with Session({"m": spec(server)}, tmp_path) as session:
        again = session.chat("m").reply(requests)
    assert errors(again) == {None: 5000}
    assert len(asked(server)) == failed
    assert [reply.text for reply, before in zip(again, replies, strict=True) if before.usable] == [
        reply.text for reply in replies if reply.usable
    ]


RUN = """
import sys
from pathlib import Path
from curate.models.asking import Request
from curate.models.session import Session
from curate.models.spec import ModelSpec
spec = ModelSpec(backend="openai", name="m", base_url=sys.argv[1], options={"max_concurrency": 32})
with Session({"m": spec}, Path(sys.argv[2])) as session:
    requests = [Request(messages=({"role": "user", "content": f"question {n}"},)) for n in range(int(sys.argv[3]))]
    replies = session.chat("m").reply(requests)
    print(sum(reply.usable for reply in replies))
"""


@pytest.mark.slow
def test_killed_five_times_and_run_again(server: ModelServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was delivered is asked again only if the process died between reading it from its socket and writing it down.

    It writes each reply down before it reads the next, so that is one answer a kill at most. What lay in a kernel's buffer
    when its process was killed was read by nobody; it is counted and printed.
    """
    server.plan(latency_s=0.02, words=[3, 8])
    command = [sys.executable, "-c", RUN, server.base_url, str(tmp_path), "3000"]
    draw, lost = random.Random(5), []
    for _ in range(5):
        before = server.counts()["count"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        while server.counts()["count"] < before + draw.randint(100, 400):
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "3000"
    entries = asked(server)
    delivered = Counter(entry["sha256"] for entry in entries if usable(entry))
    lost = [sha256 for sha256, times in delivered.items() if times > 1]
    unread = sum(entry["flushed"] and not entry["delivered"] and not entry.get("gone") for entry in entries)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(lost)} of 3,000 answers were read but not yet written when one of 5 kills came; "
            f"{unread} more lay in a kernel's buffer, read by nobody\n"
        )
    assert len(lost) <= 5
    assert max(delivered.values()) <= 2
    before = server.counts()["count"]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert server.counts()["count"] == before


def started(port: int = 0) -> tuple[subprocess.Popen[str], ModelServer]:
    """A server in a process of its own, that can be killed."""
    command = [sys.executable, "-m", "tests.models.server", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, ModelServer(int(process.stdout.readline().rsplit(":", 1)[1]))


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def test_a_server_that_dies_fails_the_run_with_one_sentence_and_the_next_run_completes(tmp_path: Path) -> None:
    process, server = started()
    server.plan(latency_s=0.02, words=[3, 8])
    replies: list[Reply] = []
    with Session({"m": spec(server, down_seconds=1.0, max_concurrency=32)}, tmp_path) as session:
        asking = threading.Thread(target=lambda: replies.extend(session.chat("m").reply(questions(4000))))
        asking.start()
        while session.statistics()[""].answered < 500:
            time.sleep(0.01)
        end(process)
        died = time.monotonic()
        asking.join(15)
        took = time.monotonic() - died
        (trouble,) = session.troubles()
    assert took < 6
    answered = errors(replies)[None]
    assert answered >= 500
    assert errors(replies) == {None: answered, "connection": 4000 - answered}
    assert trouble.startswith("model m was given up (connection: ")
    assert trouble.endswith(f"{4000 - answered:,} requests are left for the next run")

    process, server = started(server.port)
    server.plan(words=[3, 8])
    try:
        with Session({"m": spec(server)}, tmp_path) as session:
            assert errors(session.chat("m").reply(questions(4000))) == {None: 4000}
        assert server.counts()["count"] == 4000 - answered
    finally:
        end(process)


def test_a_server_that_comes_back_in_time_costs_nothing(tmp_path: Path) -> None:
    process, server = started()
    server.plan(latency_s=0.02, words=[3, 8])
    replies: list[Reply] = []
    with Session({"m": spec(server, down_seconds=20.0, max_concurrency=32)}, tmp_path) as session:
        asking = threading.Thread(target=lambda: replies.extend(session.chat("m").reply(questions(1500))))
        asking.start()
        while session.statistics()[""].answered < 200:
            time.sleep(0.01)
        end(process)
        time.sleep(1.0)
        process, server = started(server.port)
        server.plan(words=[3, 8])
        asking.join(20)
    end(process)
    assert errors(replies) == {None: 1500}


def sent_at(server: ModelServer) -> list[float]:
    return sorted(entry["sent_at"] for entry in asked(server))


def test_the_rate_a_recipe_names_is_kept(server: ModelServer, tmp_path: Path) -> None:
    """The server answers 429 above 60 a second; the recipe allows 33: it never has to."""
    server.plan(requests_per_second=60, words=[3, 8])
    with Session({"m": spec(server, requests_per_minute=2000)}, tmp_path) as session:
        assert errors(session.chat("m").reply(questions(80))) == {None: 80}
        assert session.statistics()["m"].retries == 0
    at = sent_at(server)
    assert max(sum(start <= one < start + 1 for one in at) for start in at) <= 45


def test_a_rate_that_no_recipe_names_is_learned(server: ModelServer, tmp_path: Path) -> None:
    server.plan(requests_per_second=50, latency_s=0.01, words=[3, 8])
    with Session({"m": spec(server)}, tmp_path) as session:
        assert errors(session.chat("m").reply(questions(200))) == {None: 200}
        assert session.statistics()["m"].calls <= 400


def test_concurrency_finds_the_capacity_of_a_server_that_rejects_more(server: ModelServer, tmp_path: Path) -> None:
    server.plan(capacity=12, over="429", latency_s=0.02, words=[3, 8])
    with Session({"m": spec(server, concurrency=64)}, tmp_path) as session:
        assert errors(session.chat("m").reply(questions(1000))) == {None: 1000}
        assert session.statistics()["m"].limit <= 24
    rejected = [entry for entry in asked(server) if entry["status"] == 429]
    assert len(rejected) <= 400


def test_what_is_over_is_freed_at_once(server: ModelServer, tmp_path: Path) -> None:
    """Nothing of a request waits for the garbage collector, whose passes would hold up all others."""
    server.plan(words=[3, 8])
    requests = questions(50)
    kept = [weakref.ref(request) for request in requests]
    gc.disable()
    try:
        with Session({"m": spec(server)}, tmp_path) as session:
            assert errors(session.chat("m").reply(requests)) == {None: 50}
            requests.clear()
            until = time.monotonic() + 5
            while sum(one() is not None for one in kept) > 1 and time.monotonic() < until:  # a thread may hold its latest
                time.sleep(0.01)
            assert sum(one() is not None for one in kept) <= 1
    finally:
        gc.enable()


def test_a_fast_server_is_used_to_the_full(server: ModelServer, tmp_path: Path) -> None:
    server.plan(latency_s=0.05, static=1000)
    with Session({"m": spec(server, max_concurrency=128)}, tmp_path) as session:
        session.chat("m").reply(questions(3000))
        assert session.statistics()["m"].limit == 128
    assert server.counts()["in_flight_max"] <= 128


def test_the_budget_is_kept_against_a_server(server: ModelServer, tmp_path: Path) -> None:
    server.plan(latency_s=0.01, words=[20, 20])
    priced = spec(server, max_concurrency=8).model_copy(update={"usd_per_mtok": {"in": 1.0, "out": 10.0}})
    priced = ModelSpec.model_validate(json.loads(priced.model_dump_json(by_alias=True, exclude_none=True, warnings=False)))
    with Session({"m": priced}, tmp_path, max_cost=0.05) as session:
        replies = session.chat("m").reply(questions(500))
        spent = sum(reply.cost_usd or 0.0 for reply in replies)
        assert 0.045 < spent < 0.05 + 8 * 0.0005
        assert errors(replies)["budget"] == 500 - errors(replies)[None]
        assert session.statistics()[""].cost_usd == pytest.approx(spent)


def test_samples_of_one_prompt_are_asked_in_one_call_where_the_server_can(server: ModelServer, tmp_path: Path) -> None:
    server.plan(record=True)
    samples = [Request(messages=({"role": "user", "content": f"p {n // 4}"},), sample=n % 4) for n in range(40)]
    with Session({"m": spec(server, native_n=True)}, tmp_path) as session:
        replies = session.chat("m").reply(samples)
        assert errors(replies) == {None: 40}
        assert len({reply.text for reply in replies}) == 40
    assert [json.loads(entry["body"]).get("n") for entry in asked(server)] == [4] * 10
    server.reset()
    with Session({"m": spec(server, native_n=True)}, tmp_path) as session:
        more = [Request(messages=({"role": "user", "content": f"p {n // 8}"},), sample=n % 8) for n in range(80)]
        assert sum(reply.from_ledger for reply in session.chat("m").reply(more)) == 40
    assert len(asked(server)) == 10
