"""A model server for tests: OpenAI-compatible, deterministic, faulty on demand, and honest about what it delivered.

    python -m tests.models.server --port 0        # prints its address, then serves until killed

It speaks plain HTTP/1.1 on the loopback only. `POST /_plan` says what goes wrong, `GET /_log` what was asked and what
arrived, `POST /_reset` forgets both. A plan is a JSON object:

    share        {fault: share}: drawn for each arrival of each body by hash, so that the same run has the same faults
    script       [fault, ...]: for the next requests in order of arrival, before any share; "ok" is no fault
    seed         of the draw
    latency_s    seconds before an answer
    retry_after_s, slow_s, hang_s (null: until the client goes), huge_bytes
    capacity     requests in flight above which `over` happens: "429" or "queue"
    requests_per_second   above it, 429 with Retry-After
    words [low, high], reasoning ("reasoning", "reasoning_content", "think"), tool_share, context, max_n, disorder
    encoding     "gzip" or "chunked" for every reply
    static       bytes of a fixed answer that is not computed from the question: for benchmarks
    record       true: the log holds bodies and headers, not only their hash and names
    batch        {seconds, fail_share, expire_share, status, lose_share}: see batches.py
"""

import argparse
import asyncio
import gzip
import hashlib
import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.models import answers, batches

Json = dict[str, Any]
REASONS = {
    200: "OK",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
}
FAULTS = (
    *("429", "429_seconds", "429_date", "429_ms", "500", "502", "503", "503_seconds", "hang", "cut", "reset", "refuse_bytes"),
    *("half_json", "wrong_json", "not_an_object", "nan", "surrogate", "empty_choices", "null_content", "slow", "huge", "gzip"),
    *("chunked", "chunked_cut", "content_filter", "refusal", "context_length", "401", "401_echo", "500_echo", "redirect"),
    "error_200",
)
ESTABLISHED = 1
"""TCP_INFO's first byte while both ends are open."""
WRONG = b'{"object":"chat.completion","choices":{"0":"yes"},"data":"none","usage":[]}'


@dataclass
class Answer:
    """What goes over the wire, and how."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    how: str = "whole"
    """whole, chunked, slow, cut (part of the body, then the end), reset (part, then an abort), hang, chunked_cut."""


@dataclass
class Entry:
    """One request as the log tells it."""

    path: str
    sha256: str
    fault: str
    status: int | None = None
    bytes: int = 0
    flushed: bool = False
    """Every byte of the whole reply was handed to the kernel."""
    read: bool | None = None
    """The client took every byte from its kernel; None while that is not known. After a reset some were left."""
    gone: bool | None = None
    """The client had closed its end when the reply was sent: the kernel took it, and nobody could read it."""
    sent_at: float | None = None
    body: str | None = None
    headers: dict[str, str] | None = None

    def to_json(self) -> Json:
        """With `delivered`: complete and read."""
        known = {key: value for key, value in self.__dict__.items() if value is not None or key == "read"}
        return {**known, "delivered": self.flushed and self.read is True}


def error(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    """An error as OpenAI writes it."""
    kind = {400: "invalid_request_error", 401: "invalid_request_error", 429: "rate_limit_error"}.get(status, "server_error")
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class State:
    """Plan, log and counters of one server."""

    def __init__(self) -> None:
        self.connections = 0
        self.alive: set[Connection] = set()
        self.reset()

    def reset(self) -> None:
        """Forget plan and log."""
        self.plan: Json = {}
        self.log: list[Entry] = []
        self.seen: Counter[str] = Counter()
        self.header_names: set[str] = set()
        self.in_flight = self.in_flight_max = 0
        self.answered = 0
        self.recent: list[float] = []
        self.waiting: list[Callable[[], None]] = []
        self.batches = batches.Batches()

    def fault_for(self, sha256: str) -> str:
        """What goes wrong with this arrival of this body."""
        self.seen[sha256] += 1
        if script := self.plan.get("script"):
            return str(script.pop(0))
        share = self.plan.get("share")
        if not share:
            return "ok"
        salt = f"{self.plan.get('seed', 0)}|{sha256}|{self.seen[sha256]}"
        drawn = int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8]) / 2**64
        for name, part in share.items():
            drawn -= part
            if drawn < 0:
                return str(name)
        return "ok"

    def over_rate(self) -> float | None:
        """Seconds to wait when more came in than the plan allows a second."""
        limit = self.plan.get("requests_per_second")
        if not limit:
            return None
        now = time.monotonic()
        self.recent = [at for at in self.recent if now - at < 1]
        if len(self.recent) >= limit:
            return 1 - (now - self.recent[0])
        self.recent.append(now)
        return None

    def report(self, entries: bool = True) -> Json:
        """What `GET /_log` says."""
        told = [entry.to_json() for entry in self.log] if entries else []
        return {
            "requests": told,
            "count": len(self.log),
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "connections": self.connections,
            "open_connections": len(self.alive),
            "header_names": sorted(self.header_names),
        }


def completion(content: Any, finish: str = "stop", **message: Any) -> bytes:
    """A chat completion with one given message."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "logprobs": None,
        "finish_reason": finish,
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    whole = {
        "id": "chatcmpl-x",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
    return json.dumps(whole).encode()


def faulty(fault: str, plan: Json, good: Callable[[], bytes], headers: dict[str, str]) -> Answer:
    """The answer that a fault makes of a good one."""
    wait = float(plan.get("retry_after_s", 0.05))
    match fault:
        case "429":
            return error(429, "Rate limit reached", "rate_limit_exceeded")
        case "429_seconds":
            return error(429, "Rate limit reached", "rate_limit_exceeded", Retry_After=f"{wait:g}")
        case "429_date":
            return error(429, "Rate limit reached", None, Retry_After=formatdate(time.time() + max(wait, 1), usegmt=True))
        case "429_ms":
            return error(429, "Rate limit reached", None, retry_after_ms=f"{wait * 1000:g}", Retry_After="60")
        case "500":
            return error(500, "The server had an error while processing your request")
        case "502":
            return Answer(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", {"Content-Type": "text/html"})
        case "503":
            return Answer(503, b"")
        case "503_seconds":
            return error(503, "Overloaded", None, Retry_After=f"{wait:g}")
        case "401":
            return error(401, "Incorrect API key provided.", "invalid_api_key")
        case "401_echo":
            return error(
                401,
                f"Incorrect API key provided: {json.dumps(headers)}. Bearer {headers.get('authorization')}",
                "invalid_api_key",
            )
        case "500_echo":
            return error(500, f"Failed while handling {json.dumps(headers)}, Authorization: {headers.get('authorization')}")
        case "context_length":
            return error(400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded")
        case "redirect":
            return Answer(307, b"", {"Location": "http://planted:userinfo-secret@127.0.0.1:1/v1/chat/completions"})
        case "error_200":
            return Answer(200, json.dumps({"error": {"message": "Upstream overloaded", "code": 502}}).encode())
        case "half_json":
            whole = good()
            return Answer(200, whole[: len(whole) // 2])
        case "wrong_json":
            return Answer(200, WRONG)
        case "not_an_object":
            return Answer(200, b'["not", "an", "object"]')
        case "nan":
            return Answer(200, completion("nan").replace(b'"total_tokens": 10', b'"total_tokens": NaN'))
        case "surrogate":
            return Answer(200, completion("lone \ud800 surrogate"))
        case "empty_choices":
            return Answer(200, json.dumps({**json.loads(completion("x")), "choices": []}).encode())
        case "null_content":
            return Answer(200, completion(None))
        case "content_filter":
            return Answer(200, completion(None, "content_filter"))
        case "refusal":
            return Answer(200, completion(None, refusal="I cannot help with that."))
        case "huge":
            return Answer(200, completion("0123456789" * (int(plan.get("huge_bytes", 10_000_000)) // 10)))
        case "hang" | "cut" | "reset" | "slow" | "chunked" | "chunked_cut":
            return Answer(200, good(), how=fault)
        case "gzip":
            return Answer(200, gzip.compress(good(), 1), {"Content-Encoding": "gzip"})
        case "refuse_bytes":
            return Answer(200, b"", how="garbage")
    raise ValueError(f"no fault {fault!r}; there are {', '.join(FAULTS)}")


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, answers in the same order."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.transport: Any = None
        self.buffer = bytearray()
        self.entry: Entry | None = None
        self.timers: set[asyncio.TimerHandle] = set()
        self.busy = self.counted = False

    # -- the wire ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.state.connections += 1
        self.state.alive.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.state.alive.discard(self)
        for timer in self.timers:
            timer.cancel()
        self.leave()
        if self.entry is not None and self.entry.read is None and self.entry.sent_at is not None:
            # the kernel answers what comes to a closed socket with unread bytes by a reset, and a clean end by nothing
            self.entry.read = exc is None and self.entry.flushed and not self.entry.gone

    def eof_received(self) -> bool:
        return False

    def resume_writing(self) -> None:
        if self.entry is not None and self.entry.sent_at is not None and self.entry.fault not in ("cut", "reset", "chunked_cut"):
            self.entry.flushed = True

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.busy:
            self.next_request()

    def next_request(self) -> None:
        """Take a whole request from the buffer, if there is one."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            found = unchunked(self.buffer, end + 4)
            if found is None:
                return
            body, used = found
        else:
            used = end + 4 + int(headers.get("content-length", 0))
            if len(self.buffer) < used:
                return
            body = bytes(self.buffer[end + 4 : used])
        del self.buffer[:used]
        self.busy = True
        method, target, _ = lines[0].split(" ", 2)
        self.keep = headers.get("connection", "").lower() != "close"
        if self.entry is not None and self.entry.read is None:
            self.entry.read = self.entry.flushed  # a client that asks again has read the reply before
        self.entry = None
        try:
            self.route(method, urlsplit(target).path, urlsplit(target).query, headers, body)
        except Exception as problem:  # a fault of the test server must be seen in the test, not hang it
            self.write(error(599, f"test server: {problem!r}"))

    def write(self, answer: Answer) -> None:
        """Send a whole answer."""
        head = f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Error')}\r\n"
        headers = {"Content-Type": "application/json", **answer.headers}
        chunked = answer.how.startswith("chunked")
        headers |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(answer.body))}
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        body = answer.body
        if answer.how in ("cut", "reset"):
            body = body[: max(len(body) // 2, 1)]
        elif chunked:
            parts = [body[at : at + 100] for at in range(0, len(body), 100)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
            body = body[: len(body) // 2] if answer.how == "chunked_cut" else body + b"0\r\n\r\n"
        whole = answer.how in ("whole", "chunked")
        if self.transport.is_closing():
            return
        if self.entry is not None:
            self.entry.gone = self.closed_by_client() or None
        if answer.how == "garbage":
            self.transport.write(b"\x00\x01 this is no HTTP\r\n\r\n")
        elif answer.how == "slow":
            self.dribble(head.encode() + body)
            return
        else:
            self.transport.write(head.encode() + body)
        self.sent(answer, len(body), whole)
        if answer.how == "reset":
            self.abort()
        elif answer.how in ("cut", "chunked_cut", "garbage") or not self.keep:
            self.transport.close()

    def sent(self, answer: Answer, size: int, whole: bool) -> None:
        """Write down what has gone out, and go on with the next request."""
        if self.entry is not None:
            self.entry.status, self.entry.bytes, self.entry.sent_at = answer.status, size, round(time.monotonic(), 4)
            self.entry.flushed = whole and self.transport.get_write_buffer_size() == 0
        self.leave()
        self.busy = False
        if self.buffer and not self.transport.is_closing():
            asyncio.get_running_loop().call_soon(self.next_request)

    def closed_by_client(self) -> bool:
        """Whether the client's end is closed, which the kernel knows before this program is told."""
        if self.transport.is_closing() or not hasattr(socket, "TCP_INFO"):
            return False
        state: bytes = self.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return state[0] != ESTABLISHED

    def abort(self) -> None:
        """Close with a reset."""
        self.transport.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0
        self.transport.abort()

    def dribble(self, data: bytes, pieces: int = 10) -> None:
        """Send in pieces over `slow_s`."""
        size, pause = -(-len(data) // pieces), self.state.plan.get("slow_s", 0.5) / pieces

        def piece(at: int) -> None:
            self.transport.write(data[at : at + size])
            if at + size < len(data):
                self.later(pause, lambda: piece(at + size))
            else:
                self.sent(Answer(200, data), len(data), True)

        piece(0)

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something unless the connection ends before."""
        timer = asyncio.get_running_loop().call_later(seconds, lambda: (self.timers.discard(timer), do()))  # type: ignore[func-returns-value]
        self.timers.add(timer)

    # -- the service ---------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Count a request in."""
        state = self.state
        self.counted = True
        state.in_flight += 1
        state.in_flight_max = max(state.in_flight_max, state.in_flight)

    def leave(self) -> None:
        """Count it out, and let the next in the queue in."""
        if self.counted:
            self.counted = False
            self.state.in_flight -= 1
            if self.state.waiting:
                self.state.waiting.pop(0)()

    def route(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> None:
        """Answer one request."""
        state = self.state
        if path.startswith("/_"):
            self.write(self.control(path, query, body))
            return
        state.header_names |= headers.keys()
        service = path[path.rfind("/v1/") :] if "/v1/" in path else path[path.rfind("/") :]
        sha256 = hashlib.sha256(body).hexdigest()
        modelled = service in answers.ANSWERS
        fault = state.fault_for(sha256) if modelled or (state.plan.get("everywhere") and state.plan.get("script")) else "ok"
        self.entry = Entry(path, sha256, fault)
        state.log.append(self.entry)
        if state.plan.get("record"):
            self.entry.body, self.entry.headers = body.decode(errors="replace"), dict(headers)
        self.enter()
        if not modelled:
            self.respond(fault, headers, lambda: self.other(method, service, query, headers, body))
            return
        self.limited(lambda: self.respond(fault, headers, lambda: self.model(service, body)))

    def limited(self, go: Callable[[], None]) -> None:
        """Within the capacity and rate of the plan."""
        state = self.state
        wait = state.over_rate()
        if wait is not None:
            self.write(error(429, "Too many requests a second", None, Retry_After=f"{wait:.3f}"))
            return
        capacity = state.plan.get("capacity")
        if not capacity or state.in_flight <= capacity:
            go()
        elif state.plan.get("over") == "queue":
            state.waiting.append(lambda: go() if not self.transport.is_closing() else None)
        else:
            self.write(error(429, "Too many requests at once", None))

    def respond(self, fault: str, headers: dict[str, str], good: Callable[[], Answer]) -> None:
        """After the latency, with what goes wrong."""
        plan = self.state.plan
        latency = plan.get("latency_s", 0.0)
        if fault == "hang":
            if (until := plan.get("hang_s")) is not None:
                self.later(until, lambda: self.write(good()))
            return

        def now() -> None:
            whole = good() if fault == "ok" else faulty(fault, plan, lambda: good().body, headers)
            if whole.how == "whole" and plan.get("encoding") == "chunked":
                whole.how = "chunked"
            elif whole.status == 200 and plan.get("encoding") == "gzip" and "Content-Encoding" not in whole.headers:
                whole.body, whole.headers["Content-Encoding"] = gzip.compress(whole.body, 1), "gzip"
            self.write(whole)

        self.later(latency, now) if latency else now()

    def model(self, service: str, body: bytes) -> Answer:
        """What a model answers."""
        plan = self.state.plan
        if size := plan.get("static"):
            return Answer(200, static(size))
        return model_answer(service, body, plan)

    def other(self, method: str, service: str, query: str, headers: dict[str, str], body: bytes) -> Answer:
        """Lists, files and batches."""
        if service == "/v1/models":
            return Answer(
                200, json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "test"}]}).encode()
            )
        state = self.state
        found = state.batches.answer(method, service, query, headers, body, state.plan, model_answer)
        return error(404, f"no such page: {method} {service}") if found is None else Answer(*found)

    def control(self, path: str, query: str, body: bytes) -> Answer:
        """The test's own pages."""
        state = self.state
        if path == "/_plan":
            plan = json.loads(body)
            unknown = [name for name in [*plan.get("share", {}), *plan.get("script", [])] if name not in (*FAULTS, "ok")]
            if unknown:
                return error(400, f"no fault {unknown}; there are {FAULTS}")
            state.plan = plan
        elif path == "/_reset":
            state.reset()
        elif path == "/_log":
            return Answer(200, json.dumps(state.report(entries="summary" not in query)).encode())
        else:
            return error(404, f"no such page: {path}")
        return Answer(200, b"{}")


def unchunked(data: bytearray, start: int) -> tuple[bytes, int] | None:
    """A chunked body and where it ends, or None if it is not whole yet."""
    body, at = b"", start
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(data[at:line].split(b";")[0], 16)
        if len(data) < line + size + 4:
            return None
        body += data[line + 2 : line + 2 + size]
        at = line + size + 4
        if size == 0:
            return body, at


def model_answer(service: str, body: bytes, plan: Json) -> Answer:
    """The right answer to a body, or why there is none."""
    try:
        asked = json.loads(body)
        return Answer(200, json.dumps(answers.ANSWERS[service](asked, plan), ensure_ascii=False).encode())
    except answers.BadRequest as problem:
        return error(400, str(problem), problem.code)
    except ValueError as problem:
        return error(400, f"not JSON: {problem}")


_static: dict[int, bytes] = {}


def static(size: int) -> bytes:
    """A fixed completion of about `size` bytes."""
    if size not in _static:
        _static[size] = completion("".join(random.Random(0).choices("abcdefghij ", k=size)))
    return _static[size]


async def serve(port: int, ready: Callable[[int], None], stop: asyncio.Event | None = None) -> None:
    """Serve until told to stop, or for ever."""
    state = State()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", port, backlog=2048, reuse_address=True)
    ready(server.sockets[0].getsockname()[1])
    await (stop or asyncio.Event()).wait()
    server.close()
    for connection in list(state.alive):
        connection.transport.abort()
    await asyncio.sleep(0)


class ModelServer:
    """A server in a thread of this process, or by address: what tests hold in their hands."""

    def __init__(self, port: int = 0) -> None:
        self.port = port

    @property
    def url(self) -> str:
        """Base of all pages."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What goes into a ModelSpec."""
        return f"{self.url}/v1"

    def __enter__(self) -> Self:
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

        def ready(port: int) -> None:
            self.port = port
            started.set()

        def run() -> None:
            try:
                self._loop.run_until_complete(serve(self.port, ready, self._stop))
            finally:
                self._loop.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        if not started.wait(10):
            raise RuntimeError("the test server did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def call(self, path: str, body: Json | None = None) -> Json:
        """One of the test's own pages."""
        data = None if body is None else json.dumps(body).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(
            urllib.request.Request(self.url + path, data=data, headers={"Connection": "close"}), timeout=60
        ) as reply:
            found: Json = json.loads(reply.read())
            return found

    def plan(self, **plan: Any) -> None:
        """Say what goes wrong from now on; replaces the plan before."""
        self.call("/_plan", plan)

    def reset(self) -> None:
        """Forget plan and log."""
        self.call("/_reset", {})

    def log(self) -> Json:
        """What was asked and what arrived."""
        return self.call("/_log")

    def counts(self) -> Json:
        """The log without its entries."""
        return self.call("/_log?summary")


@contextmanager
def spawned(port: int = 0) -> Iterator[ModelServer]:
    """A server in a process of its own; it is killed at the end."""
    command = [sys.executable, "-m", "tests.models.server", "--port", str(port)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout
            yield ModelServer(urlsplit(process.stdout.readline().strip()).port or 0)
        finally:
            process.kill()


def main() -> None:
    """Serve in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)

    def ready(port: int) -> None:
        sys.stdout.write(f"http://127.0.0.1:{port}\n")
        sys.stdout.flush()

    asyncio.run(serve(parser.parse_args().port, ready))


if __name__ == "__main__":
    main()
