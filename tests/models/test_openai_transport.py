"""The wire: replies read strictly, connections kept and freed, TLS, proxies and addresses."""

import asyncio
import gzip
import os
import shutil
import socket
import ssl
import subprocess
import tracemalloc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from curate.errors import UsageError
from curate.models.asking import Request
from curate.models.openai_backend import OpenAIBackend
from curate.models.spec import ModelSpec
from curate.models.transport import Address, FastTransport, Limits, Secrets, TransportError, address, is_loopback, proxy_for
from curate.models.wire import Chunks, WireError, unpacked
from tests.models.server import ModelServer

HELLO = Request(({"role": "user", "content": "hello"},))
OK = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
HEAD = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def speaking(answer: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]], **settings: Any) -> AsyncIterator[int]:
    """A server that reads one request at a time and says what `answer` writes. Yields its port."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].split(b"\r")[0]
                body = await reader.readexactly(int(length or 0))
                await answer(head + body, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, settings.pop("host", "127.0.0.1"), 0, **settings)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def said(*pieces: bytes, close: bool = False) -> Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]:
    """Answer with these bytes, each in a packet of its own."""

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)
        if close:
            writer.close()

    return answer


async def post(port: int, limit: int = 10_000, calls: int = 1, total_s: float = 5.0) -> list[Any]:
    """(status, body) or (kind, detail) of some calls over one transport."""
    transport = FastTransport(address(f"http://127.0.0.1:{port}/v1", None, {}), Limits(total_s, 5.0, limit))
    found: list[Any] = []
    for _ in range(calls):
        try:
            answer = await transport.post("/chat/completions", {"a": 1})
            found.append((answer.status, answer.body))
        except TransportError as error:
            found.append((error.kind, error.detail))
    await transport.close()
    return found


def over(answer: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]], **settings: Any) -> list[Any]:
    async def main() -> list[Any]:
        async with speaking(answer) as port:
            return await post(port, **settings)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("pieces", "close"),
    [
        ([HEAD + b"Content-Length: 5\r\n\r\nhello"], False),
        ([HEAD + b"Content-Length: 5\r\n", b"\r\nhe", b"llo"], False),
        ([b"H", b"TTP/1.1 200 OK\r\ncontent-length:5\r\n\r\n", b"hello"], False),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhello"], False),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", HEAD + b"Content-Length: 5\r\n\r\nhello"], False),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"], False),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n5", b"\r\nhel", b"lo\r", b"\n0\r\nTrailer: x\r\n", b"\r\n"], False),
        ([HEAD + b"\r\nhel", b"lo"], True),
        ([b"HTTP/1.0 200 OK\r\n\r\nhello"], True),
        ([HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"], False),
        ([HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello"], True),
    ],
)
def test_ways_to_write_a_reply(pieces: list[bytes], close: bool) -> None:
    assert over(said(*pieces, close=close), calls=2) == [(200, b"hello")] * 2


@pytest.mark.parametrize(
    ("pieces", "kind", "words"),
    [
        ([b"hello\r\n\r\n"], "bad_reply", "no HTTP/1"),
        ([b"HTTP/2 200\r\n\r\n"], "bad_reply", "no HTTP/1"),
        ([b"HTTP/1.1 abc\r\n\r\n"], "bad_reply", "no HTTP/1"),
        ([HEAD + b"Content-Length: -5\r\n\r\nhello"], "bad_reply", "content-length is '-5'"),
        ([HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"], "bad_reply", "two lengths"),
        ([HEAD + b"Content-Length : 5\r\n\r\nhello"], "bad_reply", "a header"),
        ([HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n"], "bad_reply", "not known"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"], "bad_reply", "a chunk's size"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n"], "bad_reply", "longer than its size"),
        ([HEAD + b"X: " + b"y" * 70_000], "bad_reply", "bytes of headers"),
        ([HEAD + b"Content-Length: 10001\r\n\r\n"], "bad_reply", "larger than"),
        ([HEAD + b"\r\n" + b"x" * 10_001], "bad_reply", "larger than"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n2711\r\n" + b"x" * 10_001], "bad_reply", "larger than"),
        ([HEAD + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx"], "bad_reply", "not asked for"),
        ([HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"], "bad_reply", "not gzip"),
        ([HEAD + b"Content-Length: 9\r\n\r\nhello"], "connection", "after 5 bytes"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello"], "connection", "after 5 bytes"),
        ([HEAD], "connection", "before any of it came"),
        ([], "connection", "before any of it came"),
    ],
)
def test_what_is_no_whole_reply_says_why(pieces: list[bytes], kind: str, words: str) -> None:
    found_kind, detail = over(said(*pieces, close=True))[0]
    assert found_kind == kind, detail
    assert words in detail


def test_a_small_file_that_unfolds_into_a_large_one_is_stopped() -> None:
    bomb = gzip.compress(b"0" * 10**7)
    assert len(bomb) < 10_000
    reply = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb
    kind, detail = over(said(reply))[0]
    assert (kind, "larger than" in detail) == ("bad_reply", True)
    tracemalloc.start()
    with pytest.raises(WireError, match="larger than"):
        unpacked(bomb, "gzip", 10_000)
    assert tracemalloc.get_traced_memory()[1] < 10**6  # it never was in memory
    tracemalloc.stop()
    with pytest.raises(WireError, match="too early"):
        unpacked(gzip.compress(b"hello")[:-9], "gzip", 100)


def test_bytes_that_nobody_asked_for_are_never_taken_for_a_reply() -> None:
    """A second reply sent along with the first must not answer the second request."""
    two = HEAD + b"Content-Length: 5\r\n\r\nhello" + HEAD + b"Content-Length: 5\r\n\r\nFALSE"
    late = [HEAD + b"Content-Length: 5\r\n\r\nhello", HEAD + b"Content-Length: 5\r\n\r\nFALSE"]

    async def main() -> list[Any]:
        async with speaking(said(two)) as port:
            together = await post(port, calls=3)
        async with speaking(said(*late)) as port:
            transport = FastTransport(address(f"http://127.0.0.1:{port}", None, {}))
            apart = []
            for _ in range(3):
                apart.append((await transport.post("/x", {})).body)
                await asyncio.sleep(0.05)
            await transport.close()
        return together + apart

    assert asyncio.run(main()) == [(200, b"hello")] * 3 + [b"hello"] * 3


@pytest.mark.parametrize(
    "reply",
    [
        HEAD + b"Content-Length: 5\r\n\r\nhello" + HEAD[:9],
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + HEAD[:9],
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_connection_that_said_too_much_carries_no_other_call(reply: bytes) -> None:
    """What is left of it would be the beginning of the next reply."""
    connections = []

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        connections.append(writer.get_extra_info("peername"))
        writer.write(reply)

    assert over(answer, calls=3) == [(200, b"hello")] * 3
    assert len(set(connections)) == 3


def test_chunks_cut_anywhere_give_the_same_body() -> None:
    whole = b"5\r\nhello\r\n1\r\n \r\n5;a=b\r\nworld\r\n0\r\nX: y\r\n\r\n"
    for size in range(1, len(whole) + 1):
        chunks = Chunks()
        body = b"".join(chunks.feed(whole[at : at + size]) for at in range(0, len(whole), size))
        assert (body, chunks.done, chunks.rest) == (b"hello world", True, b"")


# -- connections


def spec(server: ModelServer, **options: Any) -> ModelSpec:
    return ModelSpec(backend="openai", name="m", base_url=server.base_url, options=options)


def until(server: ModelServer, field: str, value: int) -> None:
    """Wait until the server counts so many; its own page is one connection."""
    import time

    for _ in range(100):
        if server.counts()[field] == value:
            return
        time.sleep(0.02)
    assert server.counts()[field] == value


def test_calls_share_connections_and_leave_none_behind(server: ModelServer) -> None:
    server.plan(latency_s=0.25)
    before = server.counts()["connections"]

    async def main() -> int:
        backend = OpenAIBackend(spec(server))
        replies = [await asyncio.gather(*(backend.send(HELLO) for _ in range(256))) for _ in range(4)]
        await backend.close()
        return sum(attempt.reply.usable for wave in replies for attempt in wave)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(main()) == 1024
    assert server.counts()["in_flight_max"] == 256
    assert server.counts()["connections"] - before <= 256 + 10
    until(server, "open_connections", 1)


def test_connections_that_idle_are_closed(server: ModelServer) -> None:
    async def main() -> int:
        backend = OpenAIBackend(spec(server))
        backend.transport._pool.idle_s = 0.1  # type: ignore[attr-defined]
        await asyncio.gather(*(backend.send(HELLO) for _ in range(8)))
        await asyncio.sleep(0.4)
        left = len(backend.transport._pool.open)  # type: ignore[attr-defined]
        assert (await backend.send(HELLO)).reply.usable
        await backend.close()
        return left

    assert asyncio.run(main()) == 0


def test_a_server_that_closes_idle_connections_costs_no_call() -> None:
    async def main() -> list[Any]:
        async with speaking(said(HEAD + b"Content-Length: 2\r\n\r\nok", close=True)) as port:
            transport = FastTransport(address(f"http://127.0.0.1:{port}", None, {}))
            found = []
            for _ in range(5):
                found.append((await transport.post("/x", {})).body)
                await asyncio.sleep(0.03)
            await transport.close()
            return found

    assert asyncio.run(main()) == [b"ok"] * 5


@pytest.mark.parametrize("way", ["fast", "sdk"])
def test_a_cancelled_call_frees_its_connection(server: ModelServer, way: str) -> None:
    server.plan(share={"hang": 1.0})

    async def main() -> None:
        backend = OpenAIBackend(spec(server, transport=way))
        calls = [asyncio.ensure_future(backend.send(HELLO)) for _ in range(16)]
        while (await asyncio.to_thread(server.counts))["in_flight"] < 16:
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        assert all(isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*calls, return_exceptions=True))
        await asyncio.to_thread(until, server, "open_connections", 1)
        await asyncio.to_thread(server.plan)
        assert (await backend.send(HELLO)).reply.usable
        await backend.close()

    asyncio.run(main())


def test_a_back_end_works_in_one_event_loop_after_the_other(server: ModelServer) -> None:
    backend = OpenAIBackend(spec(server))

    async def main() -> bool:
        usable = (await backend.send(HELLO)).reply.usable
        await backend.close()
        return usable

    assert [asyncio.run(main()) for _ in range(3)] == [True] * 3


def test_a_connection_that_is_never_made_is_given_up() -> None:
    """An address of a network that leads nowhere, or nowhere soon."""
    transport = FastTransport(address("http://192.0.2.1/v1", None, {}), Limits(5.0, 0.2, 1000))

    async def main() -> TransportError:
        with pytest.raises(TransportError) as found:
            await transport.post("/x", {})
        return found.value

    assert asyncio.run(main()).kind in ("timeout", "connection")


# -- addresses


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("http://h:8000/v1", "/chat/completions", "http://h:8000/v1/chat/completions"),
        ("http://h:8000/v1/", "/chat/completions", "http://h:8000/v1/chat/completions"),
        ("https://h/a/b/v1///", "/embeddings", "https://h/a/b/v1/embeddings"),
        ("http://h", "/embeddings", "http://h/embeddings"),
        ("http://[::1]:8000/v1", "/embeddings", "http://[::1]:8000/v1/embeddings"),
        ("https://h/openai/x?api-version=1", "/chat/completions", "https://h/openai/x/chat/completions?api-version=1"),
        ("http://user:secret-word@h/v1", "/embeddings", "http://h/v1/embeddings"),
        ("http://h:8000/v1", "//classify", "http://h:8000/classify"),
        ("http://h:8000/x/v1", "//score", "http://h:8000/x/score"),
        ("http://h:8000", "//score", "http://h:8000/score"),
    ],
)
def test_where_a_page_is(base: str, path: str, url: str) -> None:
    assert address(base, None, {}).url(path) == url


def test_ipv6(server: ModelServer) -> None:
    async def main() -> list[Any]:
        async with speaking(said(HEAD + b"Content-Length: 2\r\n\r\nok"), host="::1") as port:
            transport = FastTransport(address(f"http://[::1]:{port}/v1", None, {}))
            found = await transport.post("/x", {})
            await transport.close()
            return [found.body]

    try:
        assert asyncio.run(main()) == [b"ok"]
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("a.localhost", True),
        ("10.0.0.1", False),
        ("h.org", False),
    ],
)
def test_this_machine_needs_no_proxy(host: str, here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert is_loopback(host) == here
    assert proxy_for("http", host) == (None if here else "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "h.org,10.0.0.1")
    assert proxy_for("http", host) is None


def test_a_kind_of_proxy_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="'socks5'"):
        FastTransport(Address("http://h/v1", "", "h", {}, "socks5://p:1", Secrets([])))


def test_through_a_proxy(server: ModelServer) -> None:
    """The request goes to the proxy with its whole address and the proxy's own credentials."""
    seen = []

    async def main() -> bytes:
        async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
            seen.append(request)
            writer.write(HEAD + b"Content-Length: 2\r\n\r\nok")

        async with speaking(answer) as port:
            place = Address(
                "http://model.example:81/v1", "", "model.example", {}, f"http://me:word@127.0.0.1:{port}", Secrets([])
            )
            transport = FastTransport(place)
            found = await transport.post("/x", {})
            await transport.close()
            return found.body

    assert asyncio.run(main()) == b"ok"
    lines = seen[0].split(b"\r\n")
    assert lines[0] == b"POST http://model.example:81/v1/x HTTP/1.1"
    assert b"Host: model.example:81" in lines
    assert b"Proxy-Authorization: Basic bWU6d29yZA==" in lines


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 with its key, made for this run."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += [
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-keyout",
        str(folder / "key.pem"),
        "-out",
        str(folder / "cert.pem"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    made.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return made


def context_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("way", ["fast", "sdk"])
def test_tls_with_a_certificate_that_is_trusted_and_one_that_is_not(certificate: Path, way: str) -> None:
    async def main() -> list[Any]:
        reply = HEAD + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK
        found = []
        async with speaking(said(reply), ssl=context_of(certificate)) as port:
            for options in ({"ca_file": str(certificate.parent / "cert.pem")}, {}):
                model = ModelSpec(
                    backend="openai", name="m", base_url=f"https://127.0.0.1:{port}/v1", options={"transport": way, **options}
                )
                backend = OpenAIBackend(model)
                found += [(await backend.send(HELLO)).reply, (await backend.send(HELLO)).reply]
                await backend.close()
        return found

    good, again, bad, _ = asyncio.run(main())
    assert (good.text, again.text) == ("hi", "hi"), good.detail
    assert bad.error == "engine"
    assert "certificate" in bad.detail.lower()


@pytest.mark.parametrize("status", [200, 407])
def test_tls_through_a_proxy(certificate: Path, status: int) -> None:
    async def main() -> Any:
        target: dict[str, int] = {}

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"CONNECT localhost:%d HTTP/1.1" % target["port"])
            if status != 200:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                writer.close()
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", target["port"])
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

            async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            await asyncio.gather(pipe(reader, up_writer), pipe(up_reader, writer), return_exceptions=True)

        async with speaking(said(HEAD + b"Content-Length: 2\r\n\r\nok"), ssl=context_of(certificate)) as port:
            target["port"] = port
            between = await asyncio.start_server(proxy, "127.0.0.1", 0)
            way = f"http://127.0.0.1:{between.sockets[0].getsockname()[1]}"
            place = Address(f"https://localhost:{port}/v1", "", "localhost", {}, way, Secrets([]))
            transport = FastTransport(place, ca_file=str(certificate.parent / "cert.pem"))
            try:
                return [(await transport.post("/x", {})).body for _ in range(2)]
            except TransportError as error:
                return error.detail
            finally:
                await transport.close()
                between.close()
                await asyncio.sleep(0.05)

    found = asyncio.run(main())
    assert found == [b"ok", b"ok"] if status == 200 else "HTTP 407" in found


# -- secrets


def test_forms_of_a_secret_are_hidden() -> None:
    secrets = Secrets(['pa"ss/word+1', "tiny", "no"])
    for form in ('pa"ss/word+1', 'pa\\"ss/word+1', "pa%22ss%2Fword%2B1", "cGEic3Mvd29yZCsx", "tiny"):
        assert form not in secrets.hide(f"it is {form}!")
    assert secrets.hide("no news") == "no news"  # too short to be a secret
    assert secrets.hide_bytes(b"tiny words of an answer") == b"tiny words of an answer"
    assert secrets.hide("key sk-live-0123456789, Bearer abcdefghi, http://a:b@h/x") == "key ***, ***, http://***h/x"


def test_a_call_is_told_of_its_reply_before_another_socket_is_read() -> None:
    """What this process has taken from the network and what the one who asked knows differ by one reply at most."""
    calls = 4
    arrived: list[asyncio.StreamWriter] = []

    async def together(request: bytes, writer: asyncio.StreamWriter) -> None:
        arrived.append(writer)
        if len(arrived) == calls:
            for one in arrived:
                one.write(HEAD + b"Content-Length: 5\r\n\r\nhello")
                await one.drain()

    unread: list[int] = []

    def waiting(connection: Any) -> bool:
        """Whether a reply lies in the kernel's buffer."""
        descriptor = os.dup(connection.transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=descriptor) as same, suppress(BlockingIOError):
            return bool(same.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return False

    async def main() -> None:
        async with speaking(together) as port:
            transport = FastTransport(address(f"http://127.0.0.1:{port}/v1", None, {}))
            over = asyncio.Event()

            def done(answer: Any) -> None:
                assert answer.body == b"hello"
                unread.append(sum(map(waiting, transport._pool.open)))
                if len(unread) == calls:
                    over.set()

            for _ in range(calls):
                transport.begin("/chat/completions", {"a": 1}, done)
            while len(arrived) < calls:
                await asyncio.sleep(0)
            await asyncio.wait_for(over.wait(), 5)
            await transport.close()

    asyncio.run(main())
    assert unread == [3, 2, 1, 0]


def test_a_call_that_is_cancelled_tells_nobody_and_takes_its_connection_with_it() -> None:
    async def silent(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def main() -> tuple[list[Any], int]:
        async with speaking(silent) as port:
            transport = FastTransport(address(f"http://127.0.0.1:{port}/v1", None, {}), Limits(0.3, 1.0))
            told: list[Any] = []
            calls = [transport.begin("/x", {}, told.append) for _ in range(3)]
            calls[0].cancel()  # not connected yet
            while not all(call.connection for call in calls[1:]):
                await asyncio.sleep(0.005)
            calls[1].cancel()
            await asyncio.sleep(0.6)
            return told, len(transport._pool.open)

    told, left = asyncio.run(main())
    (late,) = told  # the third had to wait too long
    assert isinstance(late, TransportError) and late.kind == "timeout"
    assert left == 0


CALLS = 100


def open_connections(cancel: bool) -> tuple[int, int]:
    """Connections of CALLS calls when the server reads the first of them, and when all are over."""

    async def main() -> tuple[int, int]:
        at_first: list[int] = [0]
        over: list[Any] = []

        async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
            at_first[0] = at_first[0] or len(transport._pool.open)
            writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")

        async with speaking(answer, backlog=CALLS) as port:
            transport = FastTransport(address(f"http://127.0.0.1:{port}/v1", None, {}), Limits())
            calls = [transport.begin("/chat/completions", {}, over.append) for _ in range(CALLS)]
            if cancel:
                for call in calls:
                    call.cancel()
                await asyncio.sleep(0.05)
            while not cancel and len(over) < CALLS:
                await asyncio.sleep(0.001)
            found = len(transport._pool.open)
            await transport.close()
        return at_first[0], found

    return asyncio.run(main())


def test_of_many_calls_the_first_are_on_their_way_before_the_last_are_connected() -> None:
    at_first, at_last = open_connections(cancel=False)
    assert 0 < at_first < CALLS / 2 and at_last == CALLS


def test_calls_that_are_cancelled_before_their_turn_never_connect() -> None:
    assert open_connections(cancel=True) == (0, 0)
