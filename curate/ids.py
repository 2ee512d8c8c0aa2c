"""Name rows, steps and files by what they contain: the same ids on every machine."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any

import pydantic_core

SHORT = 100  # characters of a text that is quoted sooner than it is handed on
ID_DIGITS = 32  # 128 bits of sha256: no collision to be expected below 10^18 rows, half the bytes of the full digest


def json_writer(*, sort_keys: bool) -> Callable[[Any], str]:
    """What writes JSON without spaces and without NaN.

    JSONEncoder makes its inner part anew for every value, which for small values is half of what they cost; this keeps it.
    """
    encoder = json.JSONEncoder(sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    make: Callable[..., Callable[[Any, int], Iterable[str]]] | None = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    pieces = make(None, encoder.default, encode_basestring, None, ":", ",", sort_keys, False, False)
    return lambda value: "".join(pieces(value, 0))


_sorted_json = json_writer(sort_keys=True)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN, so that equal values give equal text."""
    return _sorted_json(value)


def quoted(text: str) -> str:
    """A text as `canonical_json` writes it; this way a page of it costs a fourth."""
    if len(text) < SHORT:
        return encode_basestring(text)
    try:
        return pydantic_core.to_json(text).decode()
    except ValueError:  # half a surrogate pair, which only a file or a hash refuses
        return encode_basestring(text)


def messages_json(messages: Iterable[Mapping[str, Any]]) -> str:
    """`canonical_json` of messages without their null fields; most are a role and a text, whose JSON is put together here."""
    parts = []
    for message in messages:
        content, role = message.get("content"), message.get("role")
        if len(message) == 2 and type(content) is str and type(role) is str:
            parts.append(f'{{"content":{quoted(content)},"role":{quoted(role)}}}')
        else:
            parts.append(canonical_json({name: value for name, value in message.items() if value is not None}))
    return f"[{','.join(parts)}]"


def digest(value: Any) -> str:
    """Full sha256 (64 hex digits) of a value's canonical JSON: names steps, snapshots and manifests."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def short_id(text: str) -> str:
    """The first 128 bits of a text's sha256 as 32 hex digits: names rows."""
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def prompt_id(messages: Sequence[Mapping[str, Any]]) -> str:
    """Id of a prompt: its messages without their null fields. Equal prompts share one id."""
    return short_id(messages_json(messages))


def response_id(prompt: str, response: str | None, *about: Any) -> str:
    """Id of a candidate: its prompt's id, its text and whatever else tells it apart (turns, model, seed, sample)."""
    return short_id(canonical_json([prompt, response, *about]))


def pair_id(chosen: str, rejected: str, goal: str | None = None) -> str:
    """Id of a pair: the ids of both sides in order, and its goal where it has one. A flipped pair has another id."""
    return short_id(f"{chosen}>{rejected}" if goal is None else f"{chosen}>{rejected}@{goal}")
