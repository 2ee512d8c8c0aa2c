"""What a model call costs in CPU: the bare protocol, our back end, and the openai SDK, on one local server.

    python -m tests.benchmarks.transport [--requests 4000] [--rounds 3] [--in-flight 64 256]

The server runs in a process of its own and answers about 1 KB after 50 ms. The ways take turns, in rounds, each in a
fresh process; the middle round is printed. `floor` writes one fixed request over hand-written asyncio protocols and reads
nothing of the answer but its length: no client can cost less. `ours` is `OpenAIBackend.send`, from a `Request` to a parsed
`Reply`; `sdk` is the same with `transport: sdk`; `openai` is the SDK alone as its documentation has it.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

LATENCY = 0.05
PROMPT = [{"role": "system", "content": "You answer briefly."}, {"role": "user", "content": "Why is the sky blue? " * 20}]
WAYS = ("floor", "ours", "sdk", "openai")
Send = Callable[[int], Awaitable[Any]]


class Floor(asyncio.Protocol):
    """One connection that sends the same bytes again and waits for an answer of known shape."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.answered: asyncio.Future[None] | None = None
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]):
            self.buffer = b""
            if self.answered:
                self.answered.set_result(None)

    def ask(self) -> "asyncio.Future[None]":
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(self.request)
        return self.answered


async def floor(base_url: str, in_flight: int) -> tuple[Send, Callable[[], Awaitable[None]]]:
    place = urlsplit(base_url)
    body = json.dumps({"model": "m", "messages": PROMPT}).encode()
    head = f"POST {place.path}/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    loop = asyncio.get_running_loop()
    free = [(await loop.create_connection(lambda: Floor(request), place.hostname, place.port))[1] for _ in range(in_flight)]

    async def send(number: int) -> None:
        connection = free.pop()
        await connection.ask()
        free.append(connection)

    async def close() -> None:
        for connection in free:
            connection.transport.close()

    return send, close


async def backend(base_url: str, way: str) -> tuple[Send, Callable[[], Awaitable[None]]]:
    from curate.models.asking import Request, Sampling
    from curate.models.openai_backend import OpenAIBackend
    from curate.models.spec import ModelSpec

    options: dict[str, Any] = {"transport": "sdk" if way == "sdk" else "fast"}
    model = OpenAIBackend(ModelSpec(backend="openai", name="m", base_url=base_url, options=options))

    async def send(number: int) -> None:
        attempt = await model.send(Request(tuple(PROMPT), Sampling(temperature=0.7, max_tokens=400), seed=number))
        if not attempt.reply.usable:
            raise RuntimeError(attempt.reply.detail)

    return send, model.close


async def plain_sdk(base_url: str) -> tuple[Send, Callable[[], Awaitable[None]]]:
    import openai

    client = openai.AsyncOpenAI(base_url=base_url, api_key="none")
    messages: Any = PROMPT

    async def send(number: int) -> None:
        await client.chat.completions.create(model="m", messages=messages, temperature=0.7, max_tokens=400, seed=number)

    return send, client.close


async def measure(way: str, base_url: str, requests: int, in_flight: int) -> dict[str, float]:
    """CPU and wall of a number of requests, after as many to warm up as are in flight."""
    if way == "floor":
        send, close = await floor(base_url, in_flight)
    else:
        send, close = await (plain_sdk(base_url) if way == "openai" else backend(base_url, way))

    async def worker(numbers: Any) -> None:
        for number in numbers:
            await send(number)

    async def all_of(count: int) -> None:
        numbers = iter(range(count))
        await asyncio.gather(*(worker(numbers) for _ in range(in_flight)))

    await all_of(in_flight)
    cpu, wall = time.process_time(), time.perf_counter()
    await all_of(requests)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_us": cpu / requests * 1e6, "wall_ratio": wall / (-(-requests // in_flight) * LATENCY), "rss_mb": peak}


def one(way: str, base_url: str, requests: int, in_flight: int) -> dict[str, float]:
    """The same in a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.transport", "--way", way, "--url", base_url]
    command += ["--requests", str(requests), "--in-flight", str(in_flight)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.way:
        print(json.dumps(asyncio.run(measure(told.way, told.url, told.requests, told.in_flight[0]))))
        return
    server = subprocess.Popen([sys.executable, "-m", "tests.models.server"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        url = server.stdout.readline().strip()
        plan = json.dumps({"latency_s": LATENCY, "static": 700}).encode()
        urllib.request.urlopen(urllib.request.Request(url + "/_plan", data=plan)).close()
        print(f"{told.requests} requests, answers of ~1 KB after {LATENCY * 1000:g} ms, middle of {told.rounds} rounds")
        print(f"{'in flight':>9}  {'way':<7}{'CPU us a request':>17}{'x floor':>9}{'wall / ideal':>14}{'peak MB':>9}")
        for in_flight in told.in_flight:
            rounds = [[one(way, url + "/v1", told.requests, in_flight) for way in WAYS] for _ in range(told.rounds)]
            middle = [{key: statistics.median(row[at][key] for row in rounds) for key in rounds[0][0]} for at in range(len(WAYS))]
            for way, row in zip(WAYS, middle, strict=True):
                times = row["cpu_us"] / middle[0]["cpu_us"]
                cells = f"{row['cpu_us']:>17.0f}{times:>9.1f}{row['wall_ratio']:>14.2f}{row['rss_mb']:>9.0f}"
                print(f"{in_flight:>9}  {way:<7}{cells}")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
