"""Batch endpoints: nothing is submitted twice, whatever is killed in between."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from curate.models.asking import Request, Sampling
from curate.models.batch import BatchError, Batches, Delivered
from curate.models.openai_backend import OpenAIBackend
from curate.models.spec import ModelSpec
from curate.store.disk import KILLED
from tests.models.server import ModelServer

SOME = [
    Request(({"role": "user", "content": f"question {number}"},), Sampling(max_tokens=50), seed=number) for number in range(40)
]


def spec(server: ModelServer) -> ModelSpec:
    return ModelSpec(backend="openai", name="m", base_url=server.base_url, api_key="planted-key-123456")  # type: ignore[arg-type]


def batched(server: ModelServer, root: Path, work: Callable[[Batches], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        backend = OpenAIBackend(spec(server))
        batches = Batches(backend, root)
        try:
            return await work(batches)
        finally:
            await batches.close()
            await backend.close()

    return asyncio.run(main())


def run(server: ModelServer, root: Path, requests: list[Request] = SOME) -> Delivered:
    found: Delivered = batched(server, root, lambda batches: batches.run(requests, poll_s=0.02))
    return found


def submitted(server: ModelServer) -> int:
    """Batches that the server was given."""
    return len(server.call("/v1/batches?limit=100")["data"])


def test_replies_are_those_of_single_calls_in_the_order_of_the_requests(server: ModelServer, tmp_path: Path) -> None:
    async def single() -> list[str | None]:
        backend = OpenAIBackend(spec(server))
        found = [(await backend.send(request)).reply.text for request in SOME]
        await backend.close()
        return found

    assert [reply.text for reply in run(server, tmp_path).replies] == asyncio.run(single())
    assert submitted(server) == 1


def test_samples_of_one_request_are_asked_apart(server: ModelServer, tmp_path: Path) -> None:
    requests = [Request(SOME[0].messages, sample=number) for number in range(3)]

    async def work(batches: Batches) -> list[str]:
        return [line.custom_id for line in await batches.lines(requests)]  # type: ignore[union-attr]

    assert len(set(batched(server, tmp_path, work))) == 3
    assert all(reply.usable for reply in run(server, tmp_path, requests).replies)


def test_a_batch_is_told_of_as_it_goes(server: ModelServer, tmp_path: Path) -> None:
    server.plan(batch={"seconds": 0.1})
    seen = []
    batched(server, tmp_path, lambda batches: batches.run(SOME, poll_s=0.03, told=seen.append))
    assert (seen[0].status, seen[-1].status, seen[-1].total, seen[-1].completed) == ("in_progress", "completed", 40, 40)


def test_lines_that_failed_expired_or_vanished_may_be_asked_again(server: ModelServer, tmp_path: Path) -> None:
    server.plan(batch={"fail_share": 0.2, "expire_share": 0.2, "lose_share": 0.2, "status": "expired"})
    replies = run(server, tmp_path).replies
    kinds = Counter(reply.error for reply in replies)
    assert set(kinds) == {None, "server", "timeout"}
    assert {reply.detail for reply in replies if reply.error == "timeout"} == {
        "batch_expired: This request could not be executed before the completion window expired.",
        "the batch ended as expired",
    }


def test_a_batch_that_failed_as_a_whole_is_submitted_anew(server: ModelServer, tmp_path: Path) -> None:
    server.plan(batch={"status": "failed"})
    first = run(server, tmp_path)
    assert {reply.error for reply in first.replies} == {"server"}
    server.plan()
    assert all(reply.usable for reply in run(server, tmp_path).replies)
    assert submitted(server) == 2


@pytest.mark.parametrize(
    "point", ["batch intended:1", "batch uploaded:1", "batch created:1", "after rename:2", "*:1", "*:7", "*:9"]
)
def test_killed_while_submitting(server: ModelServer, tmp_path: Path, point: str) -> None:
    """Wherever the process dies, the next one finds the batch or knows that there is none: one batch, ever."""
    program = (
        "import sys; from pathlib import Path; from tests.models.server import ModelServer\n"
        "from tests.models.test_openai_batch import run\n"
        "run(ModelServer(int(sys.argv[1])), Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", program, str(server.port), str(tmp_path)]
    assert subprocess.run(command, env={**os.environ, "CURATE_FAILPOINT": point}, timeout=60).returncode == KILLED
    delivered = run(server, tmp_path)
    assert all(reply.usable for reply in delivered.replies)
    assert submitted(server) == 1


def test_killed_while_waiting(server: ModelServer, tmp_path: Path) -> None:
    server.plan(batch={"seconds": 0.5})
    first = batched(server, tmp_path, lambda batches: batches.submit(SOME))
    again = batched(server, tmp_path, lambda batches: batches.submit(list(reversed(SOME))))
    assert first == again
    assert all(reply.usable for reply in run(server, tmp_path).replies)
    assert submitted(server) == 1


def test_killed_while_the_replies_were_written_down(server: ModelServer, tmp_path: Path) -> None:
    """The next run asks for what the ledger lacks: a part of the batch, which is not asked again."""
    whole = run(server, tmp_path)
    rest = run(server, tmp_path, [*SOME[25:], Request(({"role": "user", "content": "new"},))])
    assert [reply.text for reply in rest.replies[:-1]] == [reply.text for reply in whole.replies[25:]]
    assert rest.replies[-1].usable
    assert submitted(server) == 2  # the second holds the new request alone
    assert sorted(state["request_counts"]["total"] for state in server.call("/v1/batches?limit=100")["data"]) == [1, 40]


def test_a_store_that_was_lost_finds_its_batches_at_the_provider(server: ModelServer, tmp_path: Path) -> None:
    batched(server, tmp_path / "one", lambda batches: batches.submit(SOME))
    for number in range(3):  # others in between
        batched(server, tmp_path / "one", lambda batches, n=number: batches.submit(SOME[n : n + 1]))
    assert all(reply.usable for reply in run(server, tmp_path / "two").replies)
    assert submitted(server) == 4


def test_what_is_settled_is_over(server: ModelServer, tmp_path: Path) -> None:
    """After the replies are safe, the failed ones are asked in a new batch even if they are all there are."""
    server.plan(batch={"fail_share": 1.0})
    first = run(server, tmp_path)
    assert {reply.error for reply in first.replies} == {"server"}
    batched(server, tmp_path, lambda batches: settle(batches, first))
    server.plan()
    second = run(server, tmp_path)
    assert all(reply.usable for reply in second.replies)
    assert submitted(server) == 2


async def settle(batches: Batches, delivered: Delivered) -> None:
    batches.settle(delivered.names)


def test_two_processes_submit_one_batch(server: ModelServer, tmp_path: Path) -> None:
    async def main() -> list[str]:
        backends = [OpenAIBackend(spec(server)) for _ in range(4)]
        several = [Batches(backend, tmp_path) for backend in backends]
        found = await asyncio.gather(*(batches.submit(SOME) for batches in several))
        for one in [*several, *backends]:
            await one.close()
        return list(found)

    server.plan(batch={"seconds": 1.0})
    assert len(set(asyncio.run(main()))) == 1
    assert submitted(server) == 1


def test_a_provider_that_stumbles_while_it_is_polled_is_asked_again(server: ModelServer, tmp_path: Path) -> None:
    batch = batched(server, tmp_path, lambda batches: batches.submit(SOME))
    server.plan(script=["500", "cut", "429"], everywhere=True)
    assert batched(server, tmp_path, lambda batches: batches.wait(batch, 0.01)).status == "completed"


@pytest.mark.parametrize(
    ("fault", "kind"), [("500", "server"), ("401_echo", "engine"), ("cut", "connection"), ("half_json", None)]
)
def test_a_batch_that_cannot_be_submitted_says_why_without_the_key(
    server: ModelServer, tmp_path: Path, fault: str, kind: str | None
) -> None:
    server.plan(script=["ok", fault], everywhere=True)  # the list, then the upload
    with pytest.raises(BatchError) as problem:
        batched(server, tmp_path, lambda batches: batches.submit(SOME))
    assert problem.value.kind == (kind or "bad_reply")
    assert "planted-key" not in str(problem.value)
    stored = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert "planted-key" not in stored
    assert json.loads(next((tmp_path / "batches").glob("*.json")).read_text())["id"] is None
    server.plan()
    assert all(reply.usable for reply in run(server, tmp_path).replies)
    assert submitted(server) == 1


def test_a_request_that_cannot_be_sent_does_not_hold_up_the_others(server: ModelServer, tmp_path: Path) -> None:
    replies = run(server, tmp_path, [SOME[0], Request(({"role": "user", "content": "\ud800"},)), SOME[1]]).replies
    assert [reply.error for reply in replies] == [None, "request", None]
