"""HTTP to a model server: one POST or GET, its whole reply or one plain reason why there is none.

Two ways lead out. `FastTransport` is the one that calls go through; `SdkTransport` sends the same call through
the `openai` SDK, which is the reference that the fast one is tested against. Neither retries, follows redirects, keeps
cookies or reads .netrc. A proxy from the environment is used, except for this machine's own addresses.
"""

import asyncio
import base64
import json
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from curate import __version__
from curate.errors import UsageError
from curate.ids import json_writer
from curate.models.asking import ErrorKind
from curate.models.wire import Call, Outcome, Pool, Proxy, WireError

if TYPE_CHECKING:
    import openai

MAX_REPLY = 64 * 2**20
"""Bytes of a reply, after decompression: no answer of a chat model is as long, and a run holds hundreds at a time."""
IDLE_SECONDS = 4.0
"""How long an unused connection is kept: below the five seconds after which uvicorn, and so vLLM, closes it."""
SHORTEST_IN_REPLY = 8
"""Shorter keys ("EMPTY") would blank out words of replies; errors hide them from four characters on."""
MASK = "***"
KEYLIKE = re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_*\-]{6,}|(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9+/_.~=\-]{6,}|(?<=//)[^/@\s]+@")
LONGEST_DETAIL = 500


class TransportError(Exception):
    """No reply came back; `kind` says why and the text is safe to show."""

    def __init__(self, kind: ErrorKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class Secrets:
    """What must not be seen: keys, values of headers, user names and passwords of addresses."""

    def __init__(self, values: list[str]) -> None:
        forms: set[str] = set()
        for value in values:
            if len(value) >= 4:
                forms |= {value, quote(value, safe=""), quote(value), base64.b64encode(value.encode()).decode(), escaped(value)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._bytes = [form.encode() for form in self._forms if len(form) >= SHORTEST_IN_REPLY]

    def __repr__(self) -> str:
        return f"Secrets({len(self._forms)} forms)"

    def hide(self, text: str) -> str:
        """Text for people, without secrets and without what looks like one, in one line of bounded length."""
        for form in self._forms:
            text = text.replace(form, MASK)
        return " ".join(KEYLIKE.sub(MASK, text).split())[:LONGEST_DETAIL]

    def hide_bytes(self, body: bytes) -> bytes:
        """A reply's body; unchanged, and not copied, unless the server repeats a secret."""
        for form in self._bytes:
            if form in body:
                body = body.replace(form, MASK.encode())
        return body


def escaped(value: str) -> str:
    """A text as it stands within JSON."""
    return json.dumps(value)[1:-1]


@dataclass(frozen=True)
class Address:
    """A server: its base URL without credentials, the headers every call carries, and what to hide of them."""

    base: str
    """Scheme, host and path, without a slash at the end."""
    query: str = field(repr=False)
    host: str
    headers: Mapping[str, str] = field(repr=False)
    proxy: str | None = field(repr=False)
    secrets: Secrets = field(repr=False)

    def url(self, path: str) -> str:
        """The address of a page below the base URL, or of one at the server's root if `path` begins with a slash twice."""
        base = re.sub(r"/v\d+$", "", self.base) if path.startswith("//") else self.base
        return f"{base}/{path.lstrip('/')}" + (f"?{self.query}" if self.query else "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for a host; none for this machine."""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    return proxies.get(scheme) or proxies.get("all")


def address(base_url: str, key: str | None, headers: Mapping[str, str]) -> Address:
    """Take a base URL apart. As with the SDK, credentials in it are sent as Basic and win over a key."""
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = KEYLIKE.sub(MASK, base_url)
        raise UsageError(f"base_url: not an http or https address, got {shown!r}; write it like http://localhost:8000/v1")
    secret = [key or "", *headers.values()]
    sent = {"Authorization": f"Bearer {key}"} if key else {}
    userinfo, at, place = parts.netloc.rpartition("@")
    if at:
        name, _, password = (unquote(part) for part in userinfo.partition(":"))
        secret += [name, password, userinfo, f"{name}:{password}"]
        sent["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    proxy = proxy_for(parts.scheme, parts.hostname)
    if proxy and "@" in proxy:
        secret += [part for part in re.split(r"[:@/]+", proxy.rpartition("@")[0]) if part not in ("http", "https")]
    secret += [value for pair in parts.query.split("&") for value in pair.split("=")[1:]]
    base = urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
    return Address(base, parts.query, parts.hostname, {**sent, **headers}, proxy, Secrets(secret))


@dataclass(frozen=True)
class Limits:
    """How long to wait and how much to take."""

    total_s: float = 600.0
    connect_s: float = 10.0
    max_reply: int = MAX_REPLY


@dataclass(frozen=True)
class Answer:
    """A server's reply."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


KINDS: dict[str, ErrorKind] = {"cut": "connection", "broken": "bad_reply", "large": "bad_reply", "late": "timeout"}
SAFE = "/%:@!$&'()*+,;=~-._?"
"""What stands in a target as it is."""


class Transport(Protocol):
    """What carries a call to a server."""

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Post JSON; raises TransportError if no whole reply comes back."""

    async def close(self) -> None:
        """Free connections."""


class FastTransport:
    """Calls over connections of our own, as many as there are calls in flight."""

    def __init__(self, address: Address, limits: Limits = Limits(), ca_file: str | None = None) -> None:
        self.address = address
        self.limits = limits
        context = trusted(ca_file) if address.base.startswith("https") or (address.proxy or "").startswith("https") else None
        proxy, waits = proxy_of(address.proxy), (limits.total_s, limits.connect_s)
        self._pool = Pool(address.base, proxy, limits.max_reply, IDLE_SECONDS, context, *waits)
        self._posts: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"FastTransport({self.address.base})"

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Post JSON."""
        return await self._call(self._post_head(path), encoded(body))

    def begin(self, path: str, body: Mapping[str, Any], done: "Callable[[Answer | TransportError], None]") -> Call:
        """Post JSON; `done` is told the reply within the turn of the event loop that read its last byte.

        Raises TransportError for a body that cannot be posted.
        """
        return self._pool.start(self._post_head(path), encoded(body), lambda outcome: done(self._told(outcome)))

    def _post_head(self, path: str) -> bytes:
        head = self._posts.get(path)
        if head is None:
            head = self._posts[path] = self._head("POST", path, "application/json")
        return head

    async def request(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> Answer:
        """Any call; `path` may carry a query of its own, `kind` is the body's content type."""
        return await self._call(self._head(method, path, kind), body)

    def _head(self, method: str, path: str, kind: str | None) -> bytes:
        parts = urlsplit(self.address.url(path))
        target = quote(parts.path, safe=SAFE) + (f"?{quote(parts.query, safe=SAFE)}" if parts.query else "")
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": f"curate/{__version__}"}
        if kind:
            headers["Content-Type"] = kind
        return self._pool.head(method, target, {**headers, **self.address.headers})

    async def _call(self, head: bytes, body: bytes | None) -> Answer:
        told = self._told(await self._pool.call(head, body))
        if isinstance(told, TransportError):
            raise told
        return told

    def _told(self, outcome: Outcome) -> "Answer | TransportError":
        """What a call came to. Raises what is neither the server's doing nor the network's."""
        if not isinstance(outcome, Exception):
            return Answer(outcome.status, outcome.headers, self.address.secrets.hide_bytes(outcome.body))
        if isinstance(outcome, WireError):
            return self._failed(KINDS[outcome.what], str(outcome))
        if isinstance(outcome, ssl.SSLCertVerificationError):
            return self._failed("engine", f"its certificate is not trusted: {outcome.verify_message}")
        if isinstance(outcome, OSError):
            return self._failed("connection", str(outcome) or type(outcome).__name__)
        raise outcome

    def _failed(self, kind: ErrorKind, what: str) -> TransportError:
        return TransportError(kind, self.address.secrets.hide(f"{self.address.base}: {what}"))

    async def close(self) -> None:
        """Free connections."""
        await self._pool.close()


def trusted(ca_file: str | None) -> ssl.SSLContext:
    """The certificates that are trusted: the system's, or those of a file."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"ca_file: no certificates can be read from {ca_file!r} ({error})") from None


def proxy_of(url: str | None) -> Proxy | None:
    """The proxy at an address."""
    if url is None:
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"the environment names a proxy of kind {parts.scheme!r}; http and https proxies are known")
    login = None
    if parts.username is not None:
        name, password = unquote(parts.username), unquote(parts.password or "")
        login = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    tls = parts.scheme == "https"
    return Proxy(parts.hostname, parts.port or (443 if tls else 80), tls, login)


_json = json_writer(sort_keys=False)


def encoded(body: Mapping[str, Any]) -> bytes:
    """A body byte for byte as the SDK writes it."""
    try:
        return _json(body).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise TransportError("request", f"the request cannot be written as JSON: {type(error).__name__}: {error}") from None


class Quiet(logging.Filter):
    """Takes secrets out of what the SDK's HTTP client logs: it writes whole addresses, queries included."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self.secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by logging."""
        record.msg, record.args = self.secrets.hide(record.getMessage()), ()
        return True


class SdkTransport:
    """The same calls through `openai.AsyncOpenAI`; the recipe asks for it with `options: {transport: sdk}`."""

    def __init__(self, address: Address, limits: Limits = Limits(), ca_file: str | None = None) -> None:
        self.address = address
        self.limits = limits
        self._ca_file = ca_file
        self._client: openai.AsyncOpenAI | None = None
        self._quiet = Quiet(address.secrets)

    def __repr__(self) -> str:
        return f"SdkTransport({self.address.base})"

    def _open(self) -> "openai.AsyncOpenAI":
        import httpx2
        import openai

        logging.getLogger("httpx2").addFilter(self._quiet)

        secured = {"verify": trusted(self._ca_file)} if self._ca_file else {}
        http = openai.DefaultAsyncHttpx2Client(
            trust_env=False,
            proxy=self.address.proxy,
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=IDLE_SECONDS),
            **secured,
        )
        return openai.AsyncOpenAI(
            api_key="unused: the Authorization header is given",
            base_url=self.address.base,
            timeout=httpx2.Timeout(self.limits.total_s, connect=self.limits.connect_s),
            max_retries=0,
            default_headers=self.address.headers,
            default_query=dict(parse_qsl(self.address.query, keep_blank_values=True)),
            http_client=http,
        )

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Post through the SDK's method for the page, where it has one."""
        import openai

        if self._client is None:
            self._client = self._open()
        encoded(body)  # what JSON cannot hold is refused alike
        try:
            async with asyncio.timeout(self.limits.total_s):
                reply = await self._send(self._client, path, body)
        except (TimeoutError, openai.APITimeoutError):
            waited = f"waited {self.limits.total_s:g} s for the whole reply, {self.limits.connect_s:g} s to connect"
            raise TransportError("timeout", f"no answer from {self.address.base}: {waited}") from None
        except openai.APIStatusError as error:
            reply = error.response
        except openai.APIConnectionError as error:
            raise self._failed(error) from None
        if len(reply.content) > self.limits.max_reply:
            raise TransportError("bad_reply", f"the reply is larger than {self.limits.max_reply / 2**20:g} MB")
        return Answer(reply.status_code, reply.headers, self.address.secrets.hide_bytes(reply.content))

    async def _send(self, client: "openai.AsyncOpenAI", path: str, body: Mapping[str, Any]) -> Any:
        import httpx2
        import openai

        without_key = {} if "Authorization" in self.address.headers else {"Authorization": openai.Omit()}
        if path == "/chat/completions":
            known = {name: body[name] for name in body if name in SDK_FIELDS}
            others = {name: value for name, value in body.items() if name not in SDK_FIELDS} or None
            raw: Any = await client.chat.completions.with_raw_response.create(
                **known, extra_body=others, extra_headers=without_key
            )
            return raw.http_response
        return await client.post(
            self.address.url(path), cast_to=httpx2.Response, body=dict(body), options={"headers": without_key}
        )

    def _failed(self, error: Exception) -> TransportError:
        cause = error.__cause__ or error
        name, words = type(cause).__name__, str(cause)
        cut = "peer closed" in words or "disconnected" in words
        kind: ErrorKind = "bad_reply" if name in ("RemoteProtocolError", "DecodingError") and not cut else "connection"
        if "CERTIFICATE_VERIFY_FAILED" in words:
            kind = "engine"
        return TransportError(kind, self.address.secrets.hide(f"{self.address.base}: {name} ({words})"))

    async def close(self) -> None:
        """Free connections."""
        client, self._client = self._client, None
        if client is not None:
            logging.getLogger("httpx2").removeFilter(self._quiet)
            await client.close()


SDK_FIELDS = frozenset(
    {"model", "messages", "n", "seed", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop"}
    | {"presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "tools", "response_format"}
)
"""Fields of a chat request that go to the SDK's `create` by name; all others go through its `extra_body`."""
