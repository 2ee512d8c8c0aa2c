"""The `openai` back end: any server that speaks OpenAI's protocol, and vLLM's pages for rewards.

Settings of a model under `options`:

    transport      "fast" (default) or "sdk": through the openai SDK itself
    timeout_s      seconds for a whole reply (600); connect_s: to connect (10)
    max_reply_mb   the largest reply taken (64)
    ca_file        certificates to trust instead of the system's
    header.NAME    a header for every call; its value is treated as a secret
    body.FIELD     a field for every request's body, dots for fields within fields: body.chat_template_kwargs.enable_thinking
    limit_field    the field that limits a response; by default max_completion_tokens at OpenAI and max_tokens elsewhere
    think          true: split <think>…</think> off the answer as its reasoning
    media          folder that images marked `inline` may come from
    native_n       true: the server answers several samples of one request at once
    page           for rewards: "classify" (default), "pooling" or "score"
    encoding       for embeddings: "base64" (default) or "float"; dimensions: their length
    batch_size     texts of one embedding request (64)
"""

import asyncio
import base64
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import UsageError
from curate.models.asking import Attempt, ErrorKind, Reply, Request
from curate.models.completion import (
    BadQuestion,
    BadReply,
    at,
    chat_body,
    choices_of,
    decode,
    error_in,
    error_kind,
    read_reply,
    retry_after,
    tokens_in,
    with_pictures,
)
from curate.models.spec import ModelSpec
from curate.models.transport import Address, Answer, FastTransport, Limits, SdkTransport, Transport, TransportError, address
from curate.models.wire import Call

OPENAI = "https://api.openai.com/v1"
OPTIONS = frozenset(
    {"transport", "timeout_s", "connect_s", "max_reply_mb", "ca_file", "limit_field", "think", "media", "native_n"}
    | {"page", "encoding", "dimensions", "batch_size"}
)
OF_THE_CALLER = frozenset({"mode", "concurrency", "max_concurrency", "requests_per_minute", "tokens_per_minute", "retries"})
ANSWER_CHANGING = frozenset({"think", "dimensions", "page"})
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def answer_options(spec: ModelSpec) -> dict[str, Any]:
    """The options that change what is answered: they belong to a model's identity in the ledger and in a step's key."""
    told = sorted(spec.options.items())
    return {name: value for name, value in told if name.startswith("body.") or name in ANSWER_CHANGING}


def address_of(spec: ModelSpec) -> Address:
    """Where a model is. The SDK's variables count as they do there, but OPENAI_API_KEY never goes to a recipe's base_url."""
    base = spec.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
    key = spec.api_key.get_secret_value() if spec.api_key else None
    if key is None and spec.base_url is None:
        key = os.environ.get("OPENAI_API_KEY")
    named = {"OpenAI-Organization": os.environ.get("OPENAI_ORG_ID"), "OpenAI-Project": os.environ.get("OPENAI_PROJECT_ID")}
    headers = {name: value for name, value in named.items() if value}
    headers |= {name.removeprefix("header."): str(value) for name, value in spec.options.items() if name.startswith("header.")}
    for name, value in {**headers, "api_key": key or ""}.items():
        if not HEADER_NAME.fullmatch(name):
            raise UsageError(f"model {spec.name}: header.{name[:40]} is no name that an HTTP header can have")
        if not value.isprintable() or not value.isascii():
            raise UsageError(
                f"model {spec.name}: {name} holds a character that no header can carry; does it end in a line break?"
            )
    return address(base, key, headers)


def limits_of(spec: ModelSpec) -> Limits:
    """How long to wait and how much to take."""
    told = spec.options
    return Limits(
        float(told.get("timeout_s") or Limits.total_s),
        float(told.get("connect_s") or Limits.connect_s),
        int(float(told.get("max_reply_mb") or Limits.max_reply / 2**20) * 2**20),
    )


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that options add to a body."""
    body: dict[str, Any] = {}
    for name, value in options.items():
        if name.startswith("body."):
            *outer, last = name.removeprefix("body.").split(".")
            inner = body
            for part in outer:
                inner = inner.setdefault(part, {})
            inner[last] = value
    return body


class Server:
    """What the three kinds of model share: an address, a way to it, and what its errors mean."""

    def __init__(self, spec: ModelSpec) -> None:
        known = OPTIONS | OF_THE_CALLER
        unknown = [name for name in spec.options if name not in known and not name.startswith(("header.", "body."))]
        if unknown:
            offered = f"{', '.join(sorted(known))}, header.NAME, body.FIELD"
            raise UsageError(f"model {spec.name}: no option {unknown[0]!r} for the openai back end; there are {offered}")
        self.spec = spec
        self.address = address_of(spec)
        self.extra = nested(spec.options)
        ca_file = str(spec.options["ca_file"]) if spec.options.get("ca_file") else None
        way = spec.options.get("transport", "fast")
        if way not in ("fast", "sdk"):
            raise UsageError(f"model {spec.name}: transport is 'fast' or 'sdk', got {way!r}")
        self.transport: Transport = (SdkTransport if way == "sdk" else FastTransport)(self.address, limits_of(spec), ca_file)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name} at {self.address.base})"

    async def call(self, path: str, body: Mapping[str, Any]) -> "tuple[dict[str, Any], float] | Attempt":
        """(reply, seconds), or the attempt that failed."""
        start = time.perf_counter()
        try:
            answer: Answer | TransportError = await self.transport.post(path, body)
        except TransportError as error:
            answer = error
        return self.told(answer, time.perf_counter() - start)

    def told(self, answer: Answer | TransportError, seconds: float) -> "tuple[dict[str, Any], float] | Attempt":
        """(reply, seconds), or the attempt that failed."""
        if isinstance(answer, TransportError):
            return self.failed(answer.kind, answer.detail, seconds)
        try:
            return self.understood(answer, seconds) if answer.status != 200 else (self.opened(answer), seconds)
        except BadReply as error:
            return self.failed("bad_reply", str(error), seconds)
        except Failed as error:
            return self.failed(error.kind, str(error), seconds, error.wait)

    def opened(self, answer: Answer) -> dict[str, Any]:
        """The JSON of a reply with status 200, some of which are errors after all."""
        found = decode(answer.body)
        if found.get("error") and "choices" not in found and "data" not in found:
            code, message = error_in(answer.body)
            status = int(code) if code.isdigit() else 500
            raise Failed(error_kind(status, code, message), f"error {code}: {message}", retry_after(answer.headers))
        return found

    def understood(self, answer: Answer, seconds: float | None) -> Attempt:
        """What a status other than 200 means."""
        code, message = error_in(answer.body)
        if 300 <= answer.status < 400:
            message = "redirects are not followed: base_url must be the address itself"
        kind = error_kind(answer.status, code, message)
        words = f"HTTP {answer.status}" + (f" {code}" if code else "") + (f": {message}" if message else "")
        return self.failed(kind, words, seconds, retry_after(answer.headers))

    def failed(self, kind: ErrorKind, detail: str, seconds: float | None, wait: float | None = None) -> Attempt:
        """An attempt without an answer."""
        return Attempt(Reply(error=kind, detail=self.address.secrets.hide(detail), seconds=seconds), wait)

    async def close(self) -> None:
        """Free connections."""
        await self.transport.close()


class Failed(Exception):
    """An error that came as a success."""

    def __init__(self, kind: ErrorKind, detail: str, wait: float | None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.wait = wait


class OpenAIBackend(Server):
    """A chat model."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        own = self.address.host == "api.openai.com"
        self.limit_field = str(spec.options.get("limit_field") or ("max_completion_tokens" if own else "max_tokens"))
        self.think = bool(spec.options.get("think"))
        self.native_n = bool(spec.options.get("native_n"))
        self.media = Path(str(spec.options["media"])) if spec.options.get("media") else None

    async def body(self, request: Request, n: int = 1) -> dict[str, Any]:
        """What is posted for a request; raises BadQuestion where it cannot be."""
        if any(isinstance(message.get("content"), list) for message in request.messages):
            messages = await asyncio.to_thread(with_pictures, request.messages, self.media)
            request = replace(request, messages=messages)
        return self._chat_body(request, n)

    def _chat_body(self, request: Request, n: int) -> dict[str, Any]:
        return chat_body(self.spec.name, request, n=n, limit_field=self.limit_field, extra=self.extra)

    async def send(self, request: Request) -> Attempt:
        """One try at a request."""
        return (await self.send_many(request, 1))[0]

    async def send_many(self, request: Request, n: int) -> list[Attempt]:
        """One try at n samples of a request, in one call. They cannot have seeds of their own."""
        try:
            body = await self.body(request, n)
        except BadQuestion as error:
            return [self.failed("request", str(error), None)] * n
        return self.attempts(await self.call("/chat/completions", body), n)

    def begin(self, request: Request, n: int, done: Callable[[Sequence[Attempt]], None]) -> Call | None:
        """The same without waiting: `done` is told within the turn of the event loop that reads the reply's last byte.

        None where it takes more than that: pictures to read, another transport, a question that cannot be sent.
        """
        transport = self.transport
        if not isinstance(transport, FastTransport) or any(isinstance(m.get("content"), list) for m in request.messages):
            return None
        start = time.perf_counter()

        def came(answer: Answer | TransportError) -> None:
            done(self.attempts(self.told(answer, time.perf_counter() - start), n))

        try:
            return transport.begin("/chat/completions", self._chat_body(request, n), came)
        except TransportError:
            return None

    def attempts(self, called: "tuple[dict[str, Any], float] | Attempt", n: int) -> list[Attempt]:
        """A call's outcome, for each of its n samples."""
        if isinstance(called, Attempt):
            return [called] * n
        found, seconds = called
        return [Attempt(reply) for reply in self.read(found, n, seconds)]

    def read(self, found: Mapping[str, Any], n: int, seconds: float | None) -> list[Reply]:
        """The n replies in a completion; what is missing or wrong is an error in its place."""
        price, hide = self.spec.usd_per_mtok, self.address.secrets.hide
        try:
            choices = choices_of(found)[:n]
            read = [read_reply(choice, found, think=self.think, price=price, n=n, seconds=seconds) for choice in choices]
        except BadReply as error:
            return [Reply(error="bad_reply", detail=hide(str(error)), seconds=seconds)] * n
        if len(read) < n:
            missing = Reply(error="bad_reply", detail=f"choices: {len(read)} of the {n} asked for", seconds=seconds)
            read += [missing] * (n - len(read))
        return [reply if reply.detail is None else replace(reply, detail=hide(reply.detail)) for reply in read]


@dataclass(frozen=True)
class Numbers:
    """What a pooling server answered: numbers for every item in order, or an error for all of them."""

    values: np.ndarray | None = None
    """(N, D) float32."""
    error: ErrorKind | None = None
    detail: str | None = None
    retry_after: float | None = None
    seconds: float | None = None
    prompt_tokens: int | None = None
    cost_usd: float | None = None


class Pooling(Server):
    """A model that answers numbers."""

    async def numbers(self, path: str, body: Mapping[str, Any], field: str, count: int) -> Numbers:
        """One try; the values stand in `data[].<field>` in the order of `data[].index`."""
        called = await self.call(path, body)
        if isinstance(called, Attempt):
            reply = called.reply
            return Numbers(error=reply.error, detail=reply.detail, retry_after=called.retry_after, seconds=reply.seconds)
        found, seconds = called
        try:
            values = rows_of(found, field, count)
            tokens = tokens_in(found.get("usage"), "prompt_tokens")
        except BadReply as error:
            return Numbers(error="bad_reply", detail=self.address.secrets.hide(str(error)), seconds=seconds)
        price = self.spec.usd_per_mtok
        cost = None if price is None or tokens is None else tokens * price.into / 1e6
        return Numbers(values, seconds=seconds, prompt_tokens=tokens, cost_usd=cost)


def rows_of(found: Mapping[str, Any], field: str, count: int) -> np.ndarray:
    """(N, D) float32 of a list reply; every index once, every row finite and as long as the others."""
    data = at(found.get("data"), list, "data")
    rows: list[np.ndarray | None] = [None] * count
    for place, item in enumerate(data):
        index = at(at(item, dict, f"data[{place}]").get("index", place), int, f"data[{place}].index")
        if not 0 <= index < count or rows[index] is not None:
            raise BadReply(f"data[{place}].index: {index} is not one of the {count} asked for, or comes twice")
        rows[index] = row_of(item.get(field), f"data[{place}].{field}")
    if missing := [index for index, row in enumerate(rows) if row is None]:
        raise BadReply(f"data: {len(data)} of the {count} asked for; {missing[0]} is the first that is missing")
    widths = {len(row) for row in rows if row is not None}
    if len(widths) > 1:
        raise BadReply(f"data[].{field}: rows of {' and '.join(map(str, sorted(widths)))} numbers in one reply")
    return np.stack([row for row in rows if row is not None]) if rows else np.zeros((0, 0), np.float32)


def row_of(value: Any, place: str) -> np.ndarray:
    """Numbers, one number, or base64 of little-endian float32."""
    try:
        if isinstance(value, str):
            row = np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
        else:
            row = np.asarray([value] if isinstance(value, (int, float)) else at(value, list, place), np.float32)
    except (ValueError, TypeError) as error:
        raise BadReply(f"{place}: not numbers ({error})") from None
    if row.ndim != 1 or not len(row) or not np.isfinite(row).all():
        raise BadReply(f"{place}: not a list of finite numbers")
    return row


PAGES = {"classify": "probs", "pooling": "data", "score": "score"}


class OpenAIReward(Pooling):
    """A reward model on a pooling server. Rewards are raw: a one-label model's sigmoid is declined."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.page = str(spec.options.get("page") or "classify")
        if self.page not in PAGES:
            raise UsageError(f"model {spec.name}: page is one of {', '.join(PAGES)}, got {self.page!r}")

    async def send(self, messages: Sequence[Mapping[str, Any]]) -> Numbers:
        """The rewards, (1, heads), of one conversation that ends with the response. One try."""
        body: dict[str, Any] = {"model": self.spec.name, "use_activation": False}
        if self.page == "score":
            if len(messages) != 2 or not all(isinstance(message.get("content"), str) for message in messages):
                return Numbers(error="request", detail="the page /score takes one prompt and one response, both text")
            body |= {"queries": messages[0]["content"], "documents": [messages[1]["content"]]}
        else:
            body |= {"messages": list(messages)}
            if self.page == "pooling":
                body["task"] = "classify"
        return await self.numbers(f"//{self.page}", body | self.extra, PAGES[self.page], 1)


class OpenAIEmbed(Pooling):
    """An embedding model."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.batch_size = int(spec.options.get("batch_size") or 64)

    async def send(self, texts: Sequence[str]) -> Numbers:
        """Vectors of unit length, (N, D), of at most `batch_size` texts. One try."""
        if not texts:
            return Numbers(np.zeros((0, 0), np.float32))
        body: dict[str, Any] = {"model": self.spec.name, "input": list(texts)}
        body["encoding_format"] = str(self.spec.options.get("encoding") or "base64")
        if self.spec.options.get("dimensions"):
            body["dimensions"] = int(self.spec.options["dimensions"] or 0)
        found = await self.numbers("/embeddings", body | self.extra, "embedding", len(texts))
        if found.values is None:
            return found
        lengths = np.linalg.norm(found.values, axis=1, keepdims=True)
        if not lengths.all():
            return Numbers(error="bad_reply", detail="data[].embedding: a vector of length zero", seconds=found.seconds)
        return replace(found, values=(found.values / lengths).astype(np.float32))
