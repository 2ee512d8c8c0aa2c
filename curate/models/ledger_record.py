"""One record of the ledger: its key, its bytes, and which requests it answers. Nothing here touches a disk."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, NamedTuple

import pydantic_core
import zstandard

from curate.ids import canonical_json, messages_json
from curate.models.asking import Reply, Request, Sampling
from curate.models.replies import reply_of

SECRET_NAMES = frozenset({"api_key", "base_url", "headers", "authorization"})
"""What tells where a model runs and who pays, not which it is: in an identity it would part equal answers and give a key away."""
TRUNCATED = frozenset({"length", "max_tokens"})
"""Reasons to finish that mean the limit was reached."""
LARGEST = 1 << 30
"""Bytes of a record's JSON; whatever says it is larger is damaged."""
LEVEL = -1
"""Of zstd. Replies are read back four times as fast as from level 1, for half as many bytes again."""
_WHOLE_NUMBERS = frozenset({"top_k", "logprobs"})
_REPLY_FIELDS = frozenset(field.name for field in fields(Reply)) - {"raw", "from_ledger"}
_TOOLS = threading.local()


# -- the key


USELESS = "unparsable: the answer was not of the form asked for"
"""Detail of a record that disowns the answers before it."""


def key(identity: Mapping[str, Any], request: Request) -> str:
    """Name of a sample, 64 hex digits: the model and everything that shapes its answer, but not max_tokens.

    Settings that are not given leave no trace, so that a setting added later leaves old keys as they are. ValueError for a
    request that no server could be sent: NaN, half a surrogate pair, something that is no JSON.
    """
    if SECRET_NAMES & identity.keys():
        raise ValueError(f"a model's identity must not hold {', '.join(sorted(SECRET_NAMES & identity.keys()))}")
    try:
        return sha256(_canonical(identity, request).encode()).hexdigest()
    except RecursionError as error:
        raise ValueError("this request cannot be asked: it is nested too deeply") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"this request cannot be asked: {error}") from error


def _canonical(identity: Mapping[str, Any], request: Request) -> str:
    """`canonical_json` of {"model": ..., **asked(request), "sampling": ...}, whose names stand here in their order.

    Model and sampling are the same for all requests of a step, so what was written for the latest is kept.
    """
    kept = _kept(identity, request.sampling)
    parts = ['{"messages":', messages_json(request.messages), ',"model":', kept.model_json]
    if request.response_format is not None:
        parts += [',"response_format":', canonical_json(dict(request.response_format))]
    parts += [',"sample":', _number(request.sample), ',"sampling":', kept.sampling_json]
    if request.seed is not None:
        parts += [',"seed":', _number(request.seed)]
    if request.tools:
        parts += [',"tools":', canonical_json([dict(tool) for tool in request.tools])]
    return "".join(parts) + "}"


class Kept(NamedTuple):
    """A model's identity and a sampling, and their canonical JSON."""

    identity: Mapping[str, Any]
    copied: dict[str, Any]
    """The identity as it was then."""
    sampling: Sampling
    model_json: str
    sampling_json: str
    sampling_told: dict[str, Any]


def _kept(identity: Mapping[str, Any], sampling: Sampling) -> Kept:
    """The latest of this thread, if these are the very same objects: equal ones may differ in JSON, as 1 and 1.0 do."""
    latest: Kept | None = getattr(_TOOLS, "latest", None)
    same = latest is not None and latest.sampling is sampling and latest.identity is identity and latest.copied == identity
    if latest is None or not same:
        told = _sampling(sampling)
        latest = Kept(identity, dict(identity), sampling, canonical_json(_given(identity)), canonical_json(told), told)
        _TOOLS.latest = latest
    return latest


def _number(value: Any) -> str:
    return str(value) if type(value) is int else canonical_json(value)


def asked(request: Request) -> dict[str, Any]:
    """A request without its sampling, as JSON. Null fields of messages count as absent."""
    told: dict[str, Any] = {"messages": [_given(message) for message in request.messages], "sample": request.sample}
    if request.seed is not None:
        told["seed"] = request.seed
    if request.tools:
        told["tools"] = [dict(tool) for tool in request.tools]
    if request.response_format is not None:
        told["response_format"] = dict(request.response_format)
    return told


def _given(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if value is not None}


def _sampling(sampling: Sampling) -> dict[str, Any]:
    """Settings that are given: 1 and 1.0 are one temperature."""
    told: dict[str, Any] = {}
    for name, value in vars(sampling).items():
        if value is None or name == "max_tokens" or value == ():
            continue
        told[name] = list(value) if name == "stop" else int(value) if name in _WHOLE_NUMBERS else float(value)
    return told


# -- the bytes


def pack(identity: Mapping[str, Any], request: Request, reply: Reply, step: str | None, at: float) -> bytes:
    """A record's payload: three JSON documents, a line each (the reply, the raw choice, what was asked), compressed.

    Only the first two are read to serve a request. Whatever a server sent can be packed: lone surrogates and numbers that are
    none come back as they were.
    """
    answer: dict[str, Any] = {"at": at, "max_tokens": request.sampling.max_tokens}
    for name, value in vars(reply).items():
        if value is not None and value != () and name in _REPLY_FIELDS:
            answer[name] = value
    if reply.logprobs == ():
        answer["logprobs"] = []  # asked for and none, which is not the same as not asked for
    sampling = _kept(identity, request.sampling).sampling_told
    about = {"model": _given(identity), "step": step, "request": {**asked(request), "sampling": sampling}}
    lines = b"\n".join((_json(answer), _json(reply.raw), _json(about)))
    compressor: zstandard.ZstdCompressor | None = getattr(_TOOLS, "compressor", None)
    if compressor is None:
        compressor = _TOOLS.compressor = zstandard.ZstdCompressor(level=LEVEL)
    return compressor.compress(lines)


def _json(value: Any) -> bytes:
    try:
        return pydantic_core.to_json(value)
    except (ValueError, TypeError):  # lone surrogates, or a type of the back end's own: slower, and it takes both
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"), default=_plain).encode()


def json_line(value: Any) -> bytes:
    """A value as JSON for other programs: numbers that are none are null."""
    try:
        return pydantic_core.to_json(value, inf_nan_mode="null")
    except (ValueError, TypeError):
        return _json(value)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _read(line: bytes) -> Any:
    try:
        return pydantic_core.from_json(line, cache_strings="keys")
    except ValueError:
        return json.loads(line)


def lines_of(payload: bytes) -> list[bytes]:
    """The documents of a payload, unread. ValueError where it is damaged."""
    lines = _decompressed(payload).split(b"\n", 3)
    if len(lines) < 3:
        raise ValueError("a record has a part missing")
    return lines


def _decompressed(payload: bytes) -> bytes:
    try:
        if zstandard.frame_content_size(payload) > LARGEST:
            raise ValueError("a record says that it is larger than any")
        decompressor: zstandard.ZstdDecompressor | None = getattr(_TOOLS, "decompressor", None)
        if decompressor is None:
            decompressor = _TOOLS.decompressor = zstandard.ZstdDecompressor()
        return decompressor.decompress(payload)
    except zstandard.ZstdError as error:
        raise ValueError(f"a record cannot be decompressed: {error}") from error


class Raw(Mapping[str, Any]):
    """A choice as the server sent it, read when somebody looks into it: most replies are only asked for their text."""

    __slots__ = ("_line", "_found")

    def __init__(self, line: bytes) -> None:
        self._line = line
        self._found: Mapping[str, Any] | None = None

    def _read(self) -> Mapping[str, Any]:
        if self._found is None:
            self._found = _read(self._line)
        return self._found

    def __getitem__(self, name: str) -> Any:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __eq__(self, other: object) -> bool:
        return bool(self._read() == (other._read() if isinstance(other, Raw) else other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._read())


@dataclass(slots=True)
class Answer:
    """A reply as it was recorded."""

    at: float
    """When, in seconds since 1970."""
    max_tokens: int | None
    """The limit it was asked with."""
    told: Mapping[str, Any]
    raw: bytes

    @property
    def truncated(self) -> bool:
        """Whether the limit cut it off."""
        return self.told.get("finish_reason") in TRUNCATED

    @property
    def disowns(self) -> bool:
        """Whether it says that earlier answers were of no use."""
        return self.told.get("detail") == USELESS

    def serves(self, limit: int | None) -> bool:
        """Whether it answers the same request with this max_tokens.

        One that finished by itself does where it fits; a truncated one does unless the limit grew.
        """
        if self.told.get("error") is not None:
            return False
        if self.truncated:
            return self.max_tokens is None or (limit is not None and limit <= self.max_tokens)
        if limit is None or (self.max_tokens is not None and self.max_tokens <= limit):
            return True
        tokens = self.told.get("response_tokens")
        return (self._bytes() if tokens is None else tokens) <= limit

    def _bytes(self) -> int:
        """UTF-8 bytes of what came back: where the server counted no tokens, there were no more than that."""
        parts = [self.told.get("text") or "", self.told.get("reasoning") or "", str(self.told.get("tool_calls") or "")]
        return sum(len(part.encode(errors="surrogatepass")) for part in parts)

    def reply(self) -> Reply:
        """The reply, marked as one from the ledger."""
        told = dict(self.told)
        if not told.keys() <= _REPLY_FIELDS:  # a later version's
            told = {name: value for name, value in told.items() if name in _REPLY_FIELDS}
        for name in ("tool_calls", "logprobs"):
            if name in told:
                told[name] = tuple(told[name])
        if self.raw != b"null":
            told["raw"] = Raw(self.raw)
        told["from_ledger"] = True
        return reply_of(told)


def answer(payload: bytes) -> Answer:
    """The reply of a payload. ValueError where it is damaged."""
    told = _decompressed(payload)
    first = told.find(b"\n")
    raw = told.find(b"\n", first + 1)
    if first < 0 or raw < 0:
        raise ValueError("a record has a part missing")
    return _answer(told[:first], told[first + 1 : raw])


def _answer(first: bytes, raw: bytes) -> Answer:
    told = _read(first)
    return Answer(told.pop("at"), told.pop("max_tokens"), told, raw)


def about(payload: bytes) -> tuple[Answer, dict[str, Any]]:
    """The reply of a payload, and what was asked: model, step, request."""
    first, raw, rest = lines_of(payload)[:3]
    return _answer(first, raw), _read(rest)


def document(key_hex: str, payload: bytes) -> dict[str, Any]:
    """A whole record as JSON, for export."""
    found, rest = about(payload)
    request = rest["request"]
    request = {**request, "sampling": {**request["sampling"], "max_tokens": found.max_tokens}}
    return {
        "key": key_hex,
        "time": found.at,
        "model": rest["model"],
        "step": rest["step"],
        "request": request,
        "reply": {**found.told, "raw": _read(found.raw)},
    }
