"""The test server itself: other tests believe what it says it delivered."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time

from curate.models.asking import Reply, Request
from curate.models.openai_backend import OpenAIBackend
from curate.models.spec import ModelSpec
from tests.models.server import FAULTS, ModelServer, spawned

HELLO = Request(({"role": "user", "content": "hello"},))
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def ask(server: ModelServer, *requests: Request) -> list[Reply]:
    async def main() -> list[Reply]:
        backend = OpenAIBackend(ModelSpec(backend="openai", name="m", base_url=server.base_url))
        found = [(await backend.send(request)).reply for request in requests]
        await backend.close()
        return found

    return asyncio.run(main())


def numbered(count: int) -> list[Request]:
    return [Request(HELLO.messages, seed=number) for number in range(count)]


def test_the_same_question_has_the_same_answer_and_others_have_others(server: ModelServer) -> None:
    texts = [reply.text for reply in ask(server, *numbered(20), *numbered(20))]
    assert texts[:20] == texts[20:]
    assert len(set(texts)) == 20


def test_a_share_of_faults_is_the_same_in_every_run(server: ModelServer) -> None:
    kinds = []
    for _ in range(2):
        server.reset()
        server.plan(share={"500": 0.2, "429": 0.1}, seed=3)
        kinds.append([reply.error for reply in ask(server, *numbered(200))])
    assert kinds[0] == kinds[1]
    assert 20 <= kinds[0].count("server") <= 60
    assert 8 <= kinds[0].count("rate_limit") <= 35


def test_a_reply_is_delivered_when_the_client_has_read_all_of_it(server: ModelServer) -> None:
    server.plan(script=["ok", "cut", "reset", "half_json", "500"])
    ask(server, *numbered(5))
    told = [(entry["fault"], entry["flushed"], entry["delivered"]) for entry in server.log()["requests"]]
    assert told == [
        ("ok", True, True),
        ("cut", False, False),
        ("reset", False, False),
        ("half_json", True, True),
        ("500", True, True),
    ]


def test_a_reply_that_a_killed_client_had_not_read_is_not_delivered(server: ModelServer) -> None:
    program = (
        "import socket, sys, time\n"
        "one = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        f"one.sendall({POST!r})\n"
        "one.recv(1 << 20) if sys.argv[2] == 'reads' else time.sleep(0.2)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    for wanted, delivered in (("reads", True), ("sleeps", False)):
        server.reset()
        with subprocess.Popen([sys.executable, "-c", program, str(server.port), wanted], stdout=subprocess.PIPE) as client:
            assert client.stdout
            client.stdout.readline()
            assert server.log()["requests"][0]["read"] is None  # not known yet
            os.kill(client.pid, signal.SIGKILL)
        for _ in range(100):
            entry = server.log()["requests"][0]
            if entry["read"] is not None:
                break
            time.sleep(0.02)
        assert (entry["flushed"], entry["read"], entry["delivered"]) == (True, delivered, delivered)


def test_requests_on_one_connection_are_answered_in_order(server: ModelServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as one:
        one.sendall(POST * 3)
        received = b""
        while received.count(b"HTTP/1.1 200") < 3 or not received.endswith(b"}"):
            received += one.recv(1 << 16)
    assert server.counts()["count"] == 3


def test_capacity_and_rate(server: ModelServer) -> None:
    async def main() -> list[str | None]:
        backend = OpenAIBackend(ModelSpec(backend="openai", name="m", base_url=server.base_url))
        found = await asyncio.gather(*(backend.send(request) for request in numbered(10)))
        await backend.close()
        return [attempt.reply.error for attempt in found]

    server.plan(capacity=4, over="429", latency_s=0.3)
    assert asyncio.run(main()).count("rate_limit") == 6
    server.plan(capacity=4, over="queue", latency_s=0.02)
    assert asyncio.run(main()) == [None] * 10
    server.plan(requests_per_second=7)
    assert asyncio.run(main()).count("rate_limit") == 3


def test_down_and_up_again_in_a_process_of_its_own() -> None:
    with spawned() as server:
        assert ask(server, HELLO)[0].usable
        port = server.port
    assert ask(ModelServer(port), HELLO)[0].error == "connection"
    with spawned(port) as server:
        assert ask(server, HELLO)[0].usable


def test_every_fault_is_known_to_the_tests() -> None:
    from tests.models.test_openai_backend import FAULTS as TRIED

    assert set(TRIED) == set(FAULTS)
