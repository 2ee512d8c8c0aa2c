"""HTTP/1.1 for one server: connections that are kept, requests written in one piece, replies read whole.

Written by hand because of what a call costs: a general client spends on one call what a run with 256 calls in flight has
for five. It knows only what model servers need: a body in, a body out, plain or TLS, directly or through a proxy. Replies
are read strictly; whatever is not HTTP, too long or cut off is a WireError that says so.
"""

import asyncio
import socket
import ssl
import zlib
from asyncio.staggered import staggered_race
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

HEAD_LIMIT = 64 * 1024
"""Bytes of a status line and headers."""
EAGERNESS = 0.25
"""Seconds before a second address of a host is tried beside the first (RFC 8305)."""
CONNECTS_A_TURN = 16
"""Connections begun in one turn of the event loop: where hundreds are made, the first ask while the last are still being made."""
Headers = dict[str, str]


class WireError(Exception):
    """No whole reply: cut (it ended too early), broken (it is no HTTP), large, late."""

    def __init__(self, what: Literal["cut", "broken", "large", "late"], detail: str) -> None:
        super().__init__(detail)
        self.what = what


class Received(NamedTuple):
    """A reply."""

    status: int
    headers: Headers
    """By lower-case name; repeated ones joined by a comma."""
    body: bytes


Outcome = Received | Exception
"""How a call ended."""


class Connection(asyncio.Protocol):
    """One connection, one call at a time.

    A call is told of its reply within the turn that reads the reply's last byte, before any other socket is read: what this
    process has taken from the network and what the one who asked knows never differ by more than one reply.
    """

    transport: asyncio.Transport
    call: "Call | None" = None

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.idle_since = 0.0
        self._begin()

    def _begin(self) -> None:
        self.head = b""
        self.status: int | None = None
        self.headers: Headers = {}
        self.parts: list[bytes] = []
        self.size = 0
        self.left: int | None = None
        """Bytes of the body that are to come; None where the body says itself where it ends."""
        self.chunks: Chunks | None = None
        self.keep = False

    @property
    def closed(self) -> bool:
        """Whether it can carry no call any more."""
        return self.transport.is_closing()

    def ask(self, request: bytes, call: "Call") -> None:
        """Send a request; the call is told how it ends."""
        self._begin()
        self.call = call
        if self.closed:
            self.fail(WireError("cut", "the connection was closed as soon as it was made"))
        else:
            self.transport.write(request)

    def drop(self) -> None:
        """Close without telling anybody."""
        self.call = None
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self.call is None:  # nobody asked: what follows could be taken for the next reply
            self.transport.abort()
            return
        try:
            if self.status is None:
                self.head = self.head + data if self.head else data
                self._read_head()
            else:
                self._read_body(data)
        except WireError as error:
            self.fail(error)

    def eof_received(self) -> bool:
        """Called by asyncio. Some bodies end with the connection."""
        if self.call is not None and self.status is not None and self.left is None and self.chunks is None:
            self._finish()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        begun = f"after {self.size} bytes of the body" if self.status is not None else "before any of it came"
        self.fail(WireError("cut", f"the connection ended {begun}" + (f" ({type(exc).__name__})" if exc else "")))

    def fail(self, error: WireError) -> None:
        """Give the call up, and the connection with it."""
        call, self.call = self.call, None
        self.transport.abort()
        if call is not None:
            call.ended(self, error)

    def _read_head(self) -> None:
        """Status and headers, once they are whole; replies of status 1xx come before the real one."""
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            if not b"HTTP/1.".startswith(self.head[:7]):
                raise WireError("broken", f"the reply is no HTTP/1: it begins with {self.head[:20]!r}")
            if len(self.head) > HEAD_LIMIT:
                raise WireError("broken", f"the reply has more than {HEAD_LIMIT} bytes of headers")
            return
        first, *lines = self.head[:end].decode("latin-1").split("\r\n")
        rest, self.head = self.head[end + 4 :], b""
        version, _, status = first.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not status[:3].isascii() or not status[:3].isdigit() or len(status) < 3:
            raise WireError("broken", f"the reply is no HTTP/1: it begins with {first[:40]!r}")
        if status[0] == "1":
            self.head = rest
            if rest:
                self._read_head()
            return
        self.status = int(status[:3])
        self.headers = headers_of(lines)
        self._frame(version == "HTTP/1.1")
        if rest or self.left == 0:
            self._read_body(rest)

    def _frame(self, modern: bool) -> None:
        """Where the body ends, and whether the connection can be used again."""
        headers = self.headers
        wish = headers.get("connection", "").lower()
        self.keep = "close" not in wish if modern else "keep-alive" in wish
        length = headers.get("content-length")
        if (encoding := headers.get("transfer-encoding")) is not None:
            if encoding.lower() != "chunked":
                raise WireError("broken", f"transfer-encoding {encoding[:40]!r} is not known")
            self.chunks = Chunks()
            self.keep = self.keep and length is None
        elif self.status in (204, 304):
            self.left = 0
        elif length is None:
            self.keep = False
        elif not length.isascii() or not length.isdigit():
            raise WireError("broken", f"content-length is {length[:40]!r}")
        else:
            self.left = int(length)
            self._allow(self.left)

    def _allow(self, size: int) -> None:
        if size > self.limit:
            raise WireError("large", f"the reply is larger than {self.limit / 2**20:g} MB")

    def _read_body(self, data: bytes) -> None:
        if self.chunks is not None:
            data = self.chunks.feed(data)
        elif self.left is not None:
            if len(data) > self.left:
                data, self.keep = data[: self.left], False
            self.left -= len(data)
        self.parts.append(data)
        self.size += len(data)
        self._allow(self.size)
        if self.left == 0 or (self.chunks is not None and self.chunks.done):
            self.keep = self.keep and (self.chunks is None or not self.chunks.rest)
            self._finish()

    def _finish(self) -> None:
        """The reply is whole. What is done about it may ask the next thing on this connection, so nothing comes after it."""
        call, self.call = self.call, None
        if not self.keep:
            self.transport.close()
        if call is None or self.status is None:
            return
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        outcome: Outcome
        try:
            encoding = self.headers.get("content-encoding")
            outcome = Received(self.status, self.headers, unpacked(body, encoding, self.limit) if encoding else body)
        except WireError as error:
            outcome = error
        call.ended(self, outcome)


class Chunks:
    """A body that comes in chunks, each with its size before it and a line end behind it."""

    def __init__(self) -> None:
        self.rest = b""
        """What has come and is not taken yet."""
        self.left = 0
        """Bytes of the present chunk that are to come."""
        self.behind = False
        """Whether a chunk's line end comes next."""
        self.last = False
        """Whether the chunk of size zero has come; trailers and an empty line follow it."""
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body in what came."""
        data = self.rest + data
        at, parts = 0, []
        while not self.done:
            if self.left:
                part = data[at : at + self.left]
                parts.append(part)
                at, self.left = at + len(part), self.left - len(part)
                self.behind = True
                if self.left:
                    break
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > HEAD_LIMIT:
                    raise WireError("broken", "a chunk's size does not end")
                break
            self._line(data[at:end])
            at = end + 2
        self.rest = data[at:]
        return b"".join(parts)

    def _line(self, line: bytes) -> None:
        """The end of a chunk, the size of the next, or a trailer."""
        if self.behind:
            if line:
                raise WireError("broken", "a chunk is longer than its size")
            self.behind = False
        elif self.last:
            self.done = not line
        else:
            size = line.split(b";")[0].strip()
            if not size or len(size) > 15 or size.strip(b"0123456789abcdefABCDEF"):
                raise WireError("broken", f"a chunk's size is {size[:20]!r}")
            self.left = int(size, 16)
            self.last = self.left == 0


def headers_of(lines: list[str]) -> Headers:
    """Headers by lower-case name."""
    headers: Headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise WireError("broken", f"a header of the reply is {line[:40]!r}")
        name, value = name.lower(), value.strip()
        if name in headers:
            if name == "content-length" and headers[name] != value:
                raise WireError("broken", "the reply has two lengths")
            value = value if name == "content-length" else f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """A compressed body, never unfolded beyond the limit."""
    kinds = {"gzip": 31, "x-gzip": 31, "deflate": 15}
    encoding = encoding.lower()
    if encoding in ("identity", ""):
        return body
    if encoding not in kinds:
        raise WireError("broken", f"content-encoding {encoding[:40]!r} was not asked for")
    try:
        opened = zlib.decompressobj(kinds[encoding])
        whole = opened.decompress(body, limit + 1)
    except zlib.error as error:
        raise WireError("broken", f"the body is not {encoding}: {error}") from None
    if len(whole) > limit:
        raise WireError("large", f"the reply is larger than {limit / 2**20:g} MB")
    if not opened.eof:
        raise WireError("cut", f"the {encoding} body ends too early")
    return whole


async def reach(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """A socket connected to the first address of a host that answers; OSError if none does.

    The next address is tried beside those before it after EAGERNESS (RFC 8305); where a host has only one, nothing is raced.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:  # a name: to be asked for
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families = [info[0] for info in found]
    turns = sorted(range(len(found)), key=lambda place: families[:place].count(families[place]))  # families take turns
    if len(turns) == 1:
        return await connected(loop, found[0])
    tried = [partial(connected, loop, found[place]) for place in turns]
    winner: socket.socket | None
    winner, _, problems = await staggered_race(tried, EAGERNESS)
    if winner is None:
        raise next((problem for problem in problems if problem is not None), OSError(f"no address of {host} answers"))
    return winner


async def connected(loop: asyncio.AbstractEventLoop, info: Any) -> socket.socket:
    """A socket connected to one address."""
    family, kind, protocol, _, address = info
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


class Proxy(NamedTuple):
    """A proxy between here and the server."""

    host: str
    port: int
    tls: bool
    authorization: str | None


class Call:
    """One request on its way, from `Pool.start` to its outcome or `cancel`."""

    __slots__ = ("pool", "done", "until", "connection", "connecting", "cancelled")

    def __init__(self, pool: "Pool", done: Callable[[Outcome], None]) -> None:
        self.pool = pool
        self.done = done
        self.until = 0.0
        """When it has waited too long, in the event loop's time."""
        self.connection: Connection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.cancelled = False

    def ended(self, connection: Connection, outcome: Outcome) -> None:
        """The reply, or why there is none. The connection is free before anybody learns of it."""
        self.pool.ended(self, connection)
        self.done(outcome)

    def cancel(self) -> None:
        """Give it up, and its connection with it; nobody is told."""
        self.cancelled = True
        if self.connecting is not None:
            self.connecting.cancel()
        if self.connection is not None and self.connection.call is self:
            self.connection.drop()
            self.pool.ended(self, self.connection)


class Pool:
    """Connections to one server. Belongs to the event loop of its first call.

    total_s, connect_s: how long a call may wait for its whole reply, and before that for a connection.
    """

    def __init__(
        self,
        base: str,
        proxy: Proxy | None,
        limit: int,
        idle_s: float,
        context: ssl.SSLContext | None,
        total_s: float = 600.0,
        connect_s: float = 10.0,
    ) -> None:
        parts = urlsplit(base)
        assert parts.hostname
        self.tls = parts.scheme == "https"
        self.host = unquote(parts.hostname).encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
        self.port = parts.port or (443 if self.tls else 80)
        bracketed = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = bracketed if self.port == (443 if self.tls else 80) else f"{bracketed}:{self.port}"
        self.origin = f"{parts.scheme}://{self.authority}"
        self.proxy = proxy
        self.limit = limit
        self.idle_s = idle_s
        self.context = context
        self.total_s = total_s
        self.connect_s = connect_s
        self.idle: list[Connection] = []
        self.open: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._unconnected: deque[tuple[Call, bytes]] = deque()
        """Calls that wait for their turn to connect."""
        self._asked: dict[Call, None] = {}
        """Calls that wait for a reply, the oldest first: one timer does for all of them."""
        self._alarm: asyncio.TimerHandle | None = None

    def head(self, method: str, target: str, headers: Mapping[str, str]) -> bytes:
        """The part of a request that calls of one kind share: all but the length and the body."""
        if self.proxy and not self.tls:
            target = self.origin + target
            if self.proxy.authorization:
                headers = {**headers, "Proxy-Authorization": self.proxy.authorization}
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.authority}", *(f"{name}: {headers[name]}" for name in headers)]
        return "".join(line + "\r\n" for line in lines).encode("latin-1")

    def start(self, head: bytes, body: bytes | None, done: Callable[[Outcome], None]) -> Call:
        """Begin a call in the running event loop; `done` is told its outcome, after this returned."""
        request = head + b"\r\n" if body is None else b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)
        loop = asyncio.get_running_loop()
        call = Call(self, done)
        connection = self._idle(loop)
        if connection is None:
            if not self._unconnected:
                loop.call_soon(self._connect_some, loop)
            self._unconnected.append((call, request))
        else:
            self._ask(loop, connection, call, request)
        return call

    async def call(self, head: bytes, body: bytes | None) -> Outcome:
        """One call, waited for. If it is cancelled, its connection goes with it."""
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if not waiter.done():
                waiter.set_result(outcome)

        call = self.start(head, body, done)
        try:
            return await waiter
        except asyncio.CancelledError:
            call.cancel()
            raise

    def _connect_some(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to connect for the calls that wait longest."""
        for _ in range(min(CONNECTS_A_TURN, len(self._unconnected))):
            call, request = self._unconnected.popleft()
            if not call.cancelled:
                call.connecting = loop.create_task(self._connect_and_ask(loop, call, request))
        if self._unconnected:
            loop.call_soon(self._connect_some, loop)

    async def _connect_and_ask(self, loop: asyncio.AbstractEventLoop, call: Call, request: bytes) -> None:
        try:
            connection = await self._connect(loop, min(self.connect_s, self.total_s))
        except Exception as error:
            call.connecting = None
            loop.call_soon(call.done, error)  # not within this task, whose faults nobody looks at
            return
        call.connecting = None
        self._ask(loop, connection, call, request)

    def _ask(self, loop: asyncio.AbstractEventLoop, connection: Connection, call: Call, request: bytes) -> None:
        call.connection = connection
        call.until = loop.time() + self.total_s
        self._asked[call] = None
        if self._alarm is None:
            self._alarm = loop.call_at(call.until, self._late)
        connection.ask(request, call)

    def _late(self) -> None:
        """Give up what has waited too long."""
        assert self._loop
        self._alarm = None
        now = self._loop.time() + 0.001
        for call in list(self._asked):
            if call.until > now:
                break
            if call.connection is not None:
                call.connection.fail(WireError("late", f"waited {self.total_s:g} s for the whole reply"))
        if self._asked and self._alarm is None:
            self._alarm = self._loop.call_at(next(iter(self._asked)).until, self._late)

    def ended(self, call: Call, connection: Connection) -> None:
        """A call is over: its connection carries the next one, if it can."""
        self._asked.pop(call, None)
        if self._loop is None or not connection.keep or connection.closed:
            self.open.discard(connection)
        else:
            self._keep(connection, self._loop)

    def _idle(self, loop: asyncio.AbstractEventLoop) -> Connection | None:
        """The connection that was used last."""
        if self._loop is not loop:  # another event loop's connections are dead
            self._loop, self._sweep, self._alarm = loop, None, None
            self.idle, self.open, self._asked = [], set(), {}
            self._unconnected.clear()
        while self.idle:
            connection = self.idle.pop()
            if not connection.closed:
                return connection
            self.open.discard(connection)
        return None

    def _keep(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        connection.idle_since = loop.time()
        self.idle.append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(self.idle_s, self._close_idle)

    def _close_idle(self) -> None:
        """Close what was not used for a while: the oldest stand first."""
        assert self._loop
        self._sweep = None
        oldest = self._loop.time() - self.idle_s * 0.99
        while self.idle and (self.idle[0].closed or self.idle[0].idle_since <= oldest):
            connection = self.idle.pop(0)
            connection.transport.close()
            self.open.discard(connection)
        if self.idle:
            self._sweep = self._loop.call_at(self.idle[0].idle_since + self.idle_s, self._close_idle)

    async def _connect(self, loop: asyncio.AbstractEventLoop, seconds: float) -> Connection:
        try:
            async with asyncio.timeout(seconds):
                connection = await self._tunnel(loop) if self.proxy else await self._direct(loop, self.host, self.port, self.tls)
        except TimeoutError:
            raise WireError("late", f"waited {seconds:g} s to connect") from None
        self.open.add(connection)
        return connection

    async def _direct(self, loop: asyncio.AbstractEventLoop, host: str, port: int, tls: bool) -> Connection:
        limit, context = self.limit, self.context if tls else None
        reached = await reach(loop, host, port)
        try:
            made = await loop.create_connection(
                lambda: Connection(limit), sock=reached, ssl=context, server_hostname=host if context else None
            )
        except BaseException:
            reached.close()
            raise
        return made[1]

    async def _tunnel(self, loop: asyncio.AbstractEventLoop) -> Connection:
        """To the proxy, and for TLS through it to the server."""
        assert self.proxy
        connection = await self._direct(loop, self.proxy.host, self.proxy.port, self.proxy.tls)
        if not self.tls:
            return connection
        try:
            place = f"{self.authority}:443" if self.port == 443 else self.authority
            login = f"Proxy-Authorization: {self.proxy.authorization}\r\n" if self.proxy.authorization else ""
            status = await Greeting(connection).ask(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{login}\r\n".encode())
            if status != 200:
                raise WireError("cut", f"the proxy refused the way to {place}: HTTP {status}")
            assert self.context
            secured = await loop.start_tls(connection.transport, connection, self.context, server_hostname=self.host)
            if secured is None:
                raise WireError("cut", f"the proxy closed the way to {place}")
            connection.transport = secured
        except BaseException:
            connection.transport.abort()
            raise
        return connection

    async def close(self) -> None:
        """Close all connections."""
        for timer in (self._sweep, self._alarm):
            if timer is not None:
                timer.cancel()
        self._sweep = self._alarm = None
        loop = asyncio.get_running_loop()
        for connection in self.open:
            if self._loop is loop:
                with suppress(RuntimeError):
                    connection.transport.abort()
        self.idle, self.open = [], set()
        await asyncio.sleep(0)  # asyncio closes the sockets on its next turn


class Greeting(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT, then hands the connection back."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.buffer = b""
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def ask(self, request: bytes) -> int:
        """The status."""
        transport = self.connection.transport
        transport.set_protocol(self)
        transport.write(request)
        try:
            return await self.status
        finally:
            transport.set_protocol(self.connection)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if (end or len(head) > HEAD_LIMIT) and not self.status.done():
            status = head[9:12]
            if not end or rest or not head.startswith(b"HTTP/1.") or not status.isdigit():
                self.status.set_exception(WireError("broken", "the proxy's answer is no HTTP"))
            else:
                self.status.set_result(int(status))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if not self.status.done():
            self.status.set_exception(WireError("cut", "the proxy closed the connection"))
